//! What stands still or is slow: loops, disks, requests, ticks.

use super::super::{Page, Stall};
use super::brokers::admin_of;
use super::{Case, Severity, Verdict, lasted};

/// A request that waits longer than this in one stage is named.
const WAITS_S: f64 = 2.0;
/// Late ticks between two looks that are worth a word.
const LATE_TICKS: f64 = 3.0;
/// Lines of a wait-for chain that are shown.
const CHAIN_SHOWN: usize = 6;

/// Loops that stand still now, with everybody they wait for.
pub fn stalls(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let mut stalls: Vec<&Stall> = page.lasting_stalls().collect();
        // One whose holder is known explains those without: connections starve behind a deadlock.
        stalls.sort_by_key(|stall| (stall.cause != "deadlock", stall.chain.is_empty()));
        let explains = stalls.first().is_some_and(|stall| !stall.chain.is_empty());
        let (told, others): (Vec<&Stall>, Vec<&Stall>) = match explains {
            true => stalls.into_iter().partition(|stall| !stall.chain.is_empty()),
            false => (stalls, Vec::new()),
        };
        for (at, stall) in told.into_iter().enumerate() {
            let ms = case.now.at_ms.saturating_sub(stall.began_ms).max(0) as u64;
            let title = format!(
                "broker {}: {} has stood still for {}: {}",
                page.broker,
                stall.stalled.name,
                lasted(ms),
                stall.cause
            );
            let verdict = Verdict::new(Severity::Critical, "loop_stalled", title).of(page.broker);
            let mut verdict = verdict.seen(stall.says.clone());
            verdict.evidence.extend(chain(stall));
            let also =
                others.iter().filter(|_| at == 0).map(|other| format!("with it: {}", other.says));
            verdict.evidence.extend(also);
            verdicts.push(verdict.next(after_stall(stall, &admin_of(case, page))));
        }
    }
}

fn chain(stall: &Stall) -> impl Iterator<Item = String> + '_ {
    stall.chain.iter().take(CHAIN_SHOWN).map(|link| {
        let at = |place: &Option<String>| {
            place.as_deref().map_or(String::new(), |at| format!(" at {at}"))
        };
        let holder = link.holder.as_deref().unwrap_or("somebody who just changes");
        format!(
            "{} waits for lock `{}`{} since {}; {holder} holds it, taken{}{}",
            link.waiter,
            link.lock,
            at(&link.waits_at),
            lasted(link.waited_ms),
            at(&link.taken_at),
            link.held_ms.map_or(String::new(), |ms| format!(" {} ago", lasted(ms))),
        )
    })
}

/// The runbook's table, in short.
fn after_stall(stall: &Stall, admin: &str) -> String {
    let what = match stall.cause.as_str() {
        "deadlock" => {
            "it will not end: keep /debug/stalls and /debug/loops, then kill -9 this one \
                       broker; the bug report needs both places"
        }
        "fsync_inflight" | "io_inflight" | "d_state" => {
            "the disk below its data directory (iostat -x 1, dmesg); a frozen file system or thread"
        }
        "cpu_starved" => "who else has the CPU: top on its machine, its CPU quota",
        "cpu_busy" | "apply_slow" => "it works, and too long: if it repeats, drain the broker",
        "lock_wait" | "channel_full" => {
            "the holder or reader is the cause; its loop is in /debug/loops"
        }
        "runtime_starved" => "too few cores for its connections, or a task that blocks",
        _ => "keep /debug/stalls; root_state there has the kernel's word",
    };
    format!("{what}. `curl {admin}/debug/stalls`; alerts/README.md#loopstalled")
}

/// Full disks, full journals, operations that do not come back.
pub fn disks(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        if page.number("glasslog_disk_full") > 0.0 {
            let title =
                format!("broker {}: its disk is full, new records are refused", page.broker);
            let verdict = Verdict::new(Severity::Critical, "disk_full", title).of(page.broker);
            let next = "free space or shorten retention; it goes on by itself. \
                        alerts/README.md#diskfull";
            verdicts.push(verdict.seen(free(page)).next(next));
        }
        if let Some(why) = &page.journal_full {
            let title = format!("broker {}: its journal is full, new records wait", page.broker);
            let verdict = Verdict::new(Severity::Critical, "journal_full", title).of(page.broker);
            let next = "it frees itself once every group has a checkpoint: look for a slow disk or \
                        a held group; journal.max.bytes is the cap";
            verdicts.push(verdict.seen(why.clone()).next(next));
        }
        slow_operation(page, verdicts);
    }
}

fn free(page: &Page) -> String {
    let free = page.number("glasslog_disk_free_bytes");
    format!("{} MiB are free", (free / 1_048_576.0) as u64)
}

/// The journal's operation in flight, where no stall was named for it.
fn slow_operation(page: &Page, verdicts: &mut Vec<Verdict>) {
    if page.lasting_stalls().any(|stall| stall.stalled.name.starts_with("journal")) {
        return;
    }
    let ops = page.series("glasslog_journal_inflight_seconds", "op");
    for (op, age) in ops.filter(|(_, age)| *age > 1.0) {
        let ms = (age * 1e3) as u64;
        let title = format!(
            "broker {}: {op} of its journal is at the disk for {}",
            page.broker,
            lasted(ms)
        );
        let verdict = Verdict::new(Severity::Critical, "journal_slow", title).of(page.broker);
        let next = "the disk (iostat -x 1, dmesg); after 3 s it hands its leaderships over, after \
                    20 s it ends itself. alerts/README.md#journaldiskstalled";
        verdicts.push(verdict.next(next));
    }
}

/// Requests that wait where they should not.
pub fn waiting(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let oldest = page.series("glasslog_inflight_oldest_seconds", "stage");
        // A fetch may wait for new records, a member of a group for the others.
        let oldest = oldest.filter(|(stage, age)| stage.starts_with("produce") && *age > WAITS_S);
        let Some((stage, age)) = oldest.max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        let ms = (age * 1e3) as u64;
        let title = format!(
            "broker {}: a produce request waits in {stage} for {}",
            page.broker,
            lasted(ms)
        );
        let verdict = Verdict::new(Severity::Warning, "request_waits", title).of(page.broker);
        let next = "`glasslog why TOPIC` of what is produced; alerts/README.md#bufferbacklog";
        verdicts.push(verdict.next(next));
    }
}

/// Ticks that come late and leases that run out, between two looks.
pub fn late(case: &Case, verdicts: &mut Vec<Verdict>) {
    for page in case.now.pages() {
        let late = case.growth(page.broker, "glasslog_raft_ticks_late_total").unwrap_or(0.0);
        if late >= LATE_TICKS {
            let causes = page.series("glasslog_raft_ticks_late_total", "blocked_by");
            let before = case.earlier.and_then(|earlier| earlier.page_of(page.broker));
            let causes = causes.filter_map(|(cause, count)| {
                let name = format!("glasslog_raft_ticks_late_total{{blocked_by=\"{cause}\"}}");
                let grown = count - before.map_or(0.0, |page| page.number(&name));
                (grown > 0.0).then(|| format!("{grown} by {cause}"))
            });
            let title = format!("broker {}: {late} raft ticks came late just now", page.broker);
            let verdict = Verdict::new(Severity::Warning, "ticks_late", title).of(page.broker);
            let evidence = causes.collect::<Vec<_>>().join(", ");
            let next = "cpu: who else uses it; the others name a room of this broker. \
                        alerts/README.md#tickslate";
            verdicts.push(verdict.seen(evidence).next(next));
        }
        if let Some(lost) = case.growth(page.broker, "glasslog_lease_expiries_total") {
            let title = format!("broker {}: {lost} leases ran out just now", page.broker);
            let verdict = Verdict::new(Severity::Warning, "lease_expiring", title).of(page.broker);
            let next = "its followers answer late: their links and loops. \
                        alerts/README.md#leaseexpiring";
            verdicts.push(verdict.next(next));
        }
    }
}
