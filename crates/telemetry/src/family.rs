//! All series of one metric: an array, indexed by the positions of its labels' values.
//!
//! Invariants: every combination of closed labels exists from the start, and a handle is found
//! without hashing; rows of an open label are replaced as a whole, by whoever counted them, and a
//! scrape sees all of the old ones or all of the new.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::proto;

use crate::label::{Label, Open};
use crate::metric::{Histogram, Instrument, LocalRow, MetricInfo, Numbered};

/// The labels of one family, as a tuple.
pub trait Key: 'static {
    const LEN: usize;
    /// The values at a position; `None` where one of them is not exported.
    fn values(position: usize) -> Option<Vec<&'static str>>;
}

fn value<L: Label>(index: usize) -> Option<&'static str> {
    let value = L::ALL[index];
    value.exported().then(|| value.as_str())
}

impl Key for () {
    const LEN: usize = 1;
    fn values(_: usize) -> Option<Vec<&'static str>> {
        Some(Vec::new())
    }
}

impl<A: Label> Key for (A,) {
    const LEN: usize = A::ALL.len();
    fn values(position: usize) -> Option<Vec<&'static str>> {
        Some(vec![value::<A>(position)?])
    }
}

impl<A: Label, B: Label> Key for (A, B) {
    const LEN: usize = A::ALL.len() * B::ALL.len();
    fn values(position: usize) -> Option<Vec<&'static str>> {
        let width = B::ALL.len();
        Some(vec![value::<A>(position / width)?, value::<B>(position % width)?])
    }
}

impl<A: Label, B: Label, C: Label> Key for (A, B, C) {
    const LEN: usize = A::ALL.len() * B::ALL.len() * C::ALL.len();
    fn values(position: usize) -> Option<Vec<&'static str>> {
        let mut values = <(A, B)>::values(position / C::ALL.len())?;
        values.push(value::<C>(position % C::ALL.len())?);
        Some(values)
    }
}

/// All series of one metric. Without labels it stands for its only series.
pub struct Family<T, K> {
    info: &'static MetricInfo,
    items: Box<[T]>,
    /// Rows of an [`Open`] label. Held to take or replace the list, never longer.
    open: Mutex<Arc<[(String, T)]>>,
    key: PhantomData<fn(K)>,
}

impl<T: Instrument, K: Key> Family<T, K> {
    pub(crate) fn new(info: &'static MetricInfo) -> Family<T, K> {
        let items = (0..K::LEN).map(|_| T::create(info)).collect();
        Family { info, items, open: Mutex::new(Arc::from([])), key: PhantomData }
    }
}

impl<T: Numbered> Family<T, (Open,)> {
    /// These are the rows from now on: each name once, as [`Open::takes`] it, and `rest` for all
    /// others together. Values are in the raw unit.
    pub fn replace(&self, rows: impl IntoIterator<Item = (String, u64)>, rest: u64) {
        let rows = rows.into_iter().filter(|(name, _)| Open::takes(name));
        let rest = (Open::REST.to_owned(), rest);
        let rows = rows.chain([rest]).map(|(name, value)| (name, T::of(value)));
        let rows: Arc<[(String, T)]> = rows.collect();
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

impl<T: Instrument> Deref for Family<T, ()> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.items[0]
    }
}

impl<T: Instrument, A: Label> Family<T, (A,)> {
    #[inline]
    pub fn at(&self, a: A) -> &T {
        &self.items[a.index()]
    }
}

impl<T: Instrument, A: Label, B: Label> Family<T, (A, B)> {
    #[inline]
    pub fn at(&self, a: A, b: B) -> &T {
        &self.items[a.index() * B::ALL.len() + b.index()]
    }
}

impl<T: Instrument, A: Label, B: Label, C: Label> Family<T, (A, B, C)> {
    #[inline]
    pub fn at(&self, a: A, b: B, c: C) -> &T {
        &self.items[(a.index() * B::ALL.len() + b.index()) * C::ALL.len() + c.index()]
    }
}

impl<A: Label> Family<Histogram, (A,)> {
    /// One writer's share of every series.
    pub fn local(&'static self) -> Local<A> {
        Local { row: LocalRow::of(&self.items), label: PhantomData }
    }
}

impl<A: Label, B: Label> Family<Histogram, (A, B)> {
    /// One writer's share of the series of `a`.
    pub fn local_row(&'static self, a: A) -> Local<B> {
        let row = self.items.chunks(B::ALL.len()).nth(a.index()).expect("one row per label value");
        Local { row: LocalRow::of(row), label: PhantomData }
    }
}

/// A family whatever its type and labels.
pub trait AnyFamily: Sync {
    fn info(&self) -> &'static MetricInfo;
    fn kind(&self) -> proto::MetricType;
    fn collect(&self) -> proto::MetricFamily;
}

impl<T: Instrument + Send + Sync, K: Key> AnyFamily for Family<T, K> {
    fn info(&self) -> &'static MetricInfo {
        self.info
    }

    fn kind(&self) -> proto::MetricType {
        T::KIND
    }

    fn collect(&self) -> proto::MetricFamily {
        let sample = |(position, item): (usize, &T)| {
            let values = K::values(position)?;
            let mut metric = item.sample(self.info)?;
            let pairs = self.info.labels.iter().zip(values).map(|(label, value)| {
                let mut pair = proto::LabelPair::default();
                pair.set_name(label.name.to_owned());
                pair.set_value(value.to_owned());
                pair
            });
            metric.set_label(pairs.collect());
            Some(metric)
        };
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let named = |(name, item): &(String, T)| {
            let mut metric = item.sample(self.info)?;
            let mut pair = proto::LabelPair::default();
            pair.set_name(self.info.labels.first()?.name.to_owned());
            pair.set_value(name.clone());
            metric.set_label(vec![pair]);
            Some(metric)
        };
        let closed = self.items.iter().enumerate().filter_map(sample);
        let mut family = proto::MetricFamily::default();
        family.set_name(self.info.name.to_owned());
        family.set_help(self.info.help.trim().to_owned());
        family.set_field_type(T::KIND);
        family.set_metric(closed.chain(open.iter().filter_map(named)).collect());
        family
    }
}

/// One row of a family, owned by one writer.
#[derive(Debug)]
pub struct Local<L> {
    row: LocalRow,
    label: PhantomData<fn(L)>,
}

impl<L: Label> Local<L> {
    /// One observation in the raw unit: nanoseconds for a `_seconds`.
    #[inline]
    pub fn observe(&self, label: L, value: u64) {
        self.row.observe(label.index(), value);
    }
}
