//! A [`Board`] as Grafana's JSON: classic dashboards, readable by every Grafana of the last years.

use serde_json::{Value, json};

use super::board::{Board, Panel, Query, Row, Shape};
use super::unit::{self, Unit};

/// Grafana's grid is this wide.
const WIDTH: u64 = 24;
const SCHEMA: u64 = 39;

/// The file's text.
pub fn json(board: &Board) -> Result<String, String> {
    let mut panels = Vec::new();
    let mut at = Place::default();
    for row in &board.rows {
        add_row(board, row, &mut at, &mut panels)?;
    }
    let page = json!({
        "uid": format!("glasslog-{}", board.id),
        "title": format!("Glasslog: {}", board.title),
        "description": board.about,
        "tags": ["glasslog"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "5s",
        "time": { "from": "now-30m", "to": "now" },
        "timezone": "utc",
        "links": [{
            "type": "dashboards", "tags": ["glasslog"], "title": "Glasslog", "asDropdown": true,
            "includeVars": true, "keepTime": true,
        }],
        "templating": { "list": variables() },
        "annotations": { "list": [alerts()] },
        "panels": panels,
    });
    let text = serde_json::to_string_pretty(&page).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}

/// Where the next panel goes.
#[derive(Default)]
struct Place {
    x: u64,
    y: u64,
    /// Height of the line that is being filled.
    height: u64,
    id: u64,
}

impl Place {
    fn next(&mut self, width: u64, height: u64) -> Value {
        if self.x + width > WIDTH || (self.x > 0 && self.height != height) {
            self.new_line();
        }
        let place = json!({ "x": self.x, "y": self.y, "w": width, "h": height });
        (self.x, self.height) = (self.x + width, height);
        self.id += 1;
        place
    }

    fn new_line(&mut self) {
        (self.x, self.y, self.height) = (0, self.y + self.height, 0);
    }
}

fn add_row(
    board: &Board,
    row: &Row,
    at: &mut Place,
    panels: &mut Vec<Value>,
) -> Result<(), String> {
    at.new_line();
    let grid = at.next(WIDTH, 1);
    panels.push(json!({
        "id": at.id, "type": "row", "title": row.title, "collapsed": false, "gridPos": grid,
        "panels": [],
    }));
    at.new_line();
    for panel in &row.panels {
        let unit = match panel.unit {
            Some(unit) => unit,
            None => unit::of(panel.queries.iter().map(|query| query.expr.as_str()))
                .map_err(|error| format!("{}, panel `{}`: {error}", board.title, panel.title))?,
        };
        let (width, height) = match panel.shape {
            Shape::Number => (4, 4),
            Shape::Lines | Shape::Stacked => (8, 8),
            Shape::Table => (WIDTH, 7),
        };
        let grid = at.next(width, height);
        panels.push(one(panel, unit, at.id, &grid));
    }
    Ok(())
}

fn one(panel: &Panel, unit: Unit, id: u64, grid: &Value) -> Value {
    let (kind, custom, options) = match panel.shape {
        Shape::Lines => ("timeseries", lines(false), legend()),
        Shape::Stacked => ("timeseries", lines(true), legend()),
        Shape::Number => ("stat", json!({}), number()),
        Shape::Table => ("table", json!({}), json!({ "showHeader": true })),
    };
    let mut steps = vec![json!({ "color": "green", "value": null })];
    steps.extend(panel.red_from.map(|value| json!({ "color": "red", "value": value })));
    let mut value = json!({
        "id": id,
        "type": kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": source(),
        "gridPos": grid,
        "fieldConfig": {
            "defaults": {
                "unit": unit.as_str(),
                "min": 0,
                "custom": custom,
                "thresholds": { "mode": "absolute", "steps": steps },
            },
            "overrides": [],
        },
        "options": options,
        "targets": targets(panel),
    });
    if panel.shape == Shape::Table {
        // The labels are what is read; time and the metric's name say nothing.
        let hidden = json!({ "Time": true, "__name__": true, "job": true });
        value["transformations"] =
            json!([{ "id": "organize", "options": { "excludeByName": hidden } }]);
    }
    value
}

fn targets(panel: &Panel) -> Vec<Value> {
    let instant = matches!(panel.shape, Shape::Number | Shape::Table);
    let target = |(at, query): (usize, &Query)| {
        let mut target = json!({
            "refId": char::from(b'A' + u8::try_from(at).expect("a few")).to_string(),
            "datasource": source(),
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": instant,
            "range": !instant,
            // Points that lead to the trace of one request.
            "exemplar": query.expr.starts_with("histogram_quantile") && !instant,
        });
        if panel.shape == Shape::Table {
            target["format"] = json!("table");
        }
        target
    };
    panel.queries.iter().enumerate().map(target).collect()
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn lines(stacked: bool) -> Value {
    json!({
        "lineWidth": 1,
        "fillOpacity": if stacked { 60 } else { 0 },
        "showPoints": "never",
        "stacking": { "mode": if stacked { "normal" } else { "none" }, "group": "A" },
    })
}

fn legend() -> Value {
    json!({
        "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
        "tooltip": { "mode": "multi", "sort": "desc" },
    })
}

fn number() -> Value {
    json!({
        "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
    })
}

fn variables() -> Vec<Value> {
    let choice = |name: &str, label: &str, query: &str| {
        json!({
            "name": name, "label": label, "type": "query", "datasource": source(),
            "query": { "query": query, "refId": name }, "definition": query,
            "refresh": 2, "sort": 1, "multi": true, "includeAll": true,
            // Also a series that has no such label.
            "allValue": ".*",
            "current": { "text": ["All"], "value": ["$__all"] },
        })
    };
    vec![
        json!({ "name": "datasource", "label": "Data source", "type": "datasource",
                "query": "prometheus", "current": {} }),
        choice("cluster", "Cluster", "label_values(glasslog_ready, cluster)"),
        choice(
            "instance",
            "Broker",
            "label_values(glasslog_ready{cluster=~\"$cluster\"}, instance)",
        ),
    ]
}

/// Pages and tickets as marks over every panel.
fn alerts() -> Value {
    json!({
        "name": "Alerts", "enable": true, "iconColor": "red", "datasource": source(),
        "expr": "ALERTS{alertstate=\"firing\", alertname!=\"DeadMan\", cluster=~\"$cluster\"}",
        "titleFormat": "{{alertname}}", "tagKeys": "instance,severity", "step": "10s",
    })
}
