//! Order, holders, waiters, and the recycling of cells.

use std::ptr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use super::holder::pool;
use super::*;

fn outer() -> Lock<u32> {
    Lock::new(LockClass::TestOuter, 0)
}

fn inner() -> RwLock<u32> {
    RwLock::new(LockClass::TestInner, 0)
}

#[test]
fn locks_are_taken_in_the_order_of_their_ranks() {
    let (outer, inner) = (outer(), inner());
    *outer.lock() += 1;
    let held = outer.lock();
    *inner.write() += *held;
    drop(held);
    assert_eq!((*outer.lock(), *inner.read()), (1, 1));
}

#[test]
#[should_panic(expected = "lock order: test_outer is taken at")]
fn a_lower_rank_under_a_higher_one_panics() {
    let (outer, inner) = (outer(), inner());
    let _held = inner.read();
    drop(outer.lock());
}

#[test]
#[should_panic(expected = "while test_inner is held")]
fn the_same_rank_twice_panics() {
    let (one, two) = (inner(), inner());
    let _held = one.read();
    drop(two.read());
}

#[test]
fn trying_never_waits_and_so_never_breaks_the_order() {
    let (outer, inner) = (outer(), inner());
    let _held = inner.write();
    assert!(outer.try_lock().is_some());
}

#[test]
fn holder_call_site_and_waiters_are_known() {
    let lock = Arc::new(outer());
    let guard = lock.lock();
    let line = line!() - 1;
    let (contender, (started, waits)) = (lock.clone(), mpsc::channel());
    let waiter = thread::spawn(move || {
        started.send(()).expect("the test listens");
        let before_ns = waited_ns();
        drop(contender.lock());
        waited_ns() - before_ns
    });
    waits.recv().expect("the waiter started");
    while lock.entry.cell.waiters() == 0 {
        thread::yield_now();
    }
    let held = lock.entry.cell.held().expect("held");
    assert_eq!((held.class, held.mode), (LockClass::TestOuter, Mode::Exclusive));
    assert_eq!((held.thread, held.waiters), (clock::thread_id(), 1));
    assert_eq!(held.site.map(Location::line), Some(line));
    assert!(super::held(0).iter().any(|other| other.site == held.site));
    drop(guard);
    assert!(waiter.join().expect("no panic") > 0);
    assert!(lock.entry.cell.held().is_none());
    let waits = metrics().lock_wait_seconds.at(LockClass::TestOuter).totals();
    assert!(waits.count >= 1);
}

#[test]
fn readers_are_described_while_others_leave() {
    let lock = Arc::new(inner());
    let first = lock.read();
    let other = lock.clone();
    thread::spawn(move || drop(other.read())).join().expect("no panic");
    let held = lock.entry.cell.held().expect("held");
    assert_eq!((held.mode, held.thread), (Mode::Shared, clock::thread_id()));
    drop(first);
    assert!(lock.entry.cell.held().is_none());
}

#[test]
fn cells_are_used_again() {
    let cell = { ptr::from_ref(outer().entry.cell) };
    let reused = (0..1_000).map(|_| outer()).collect::<Vec<_>>();
    let all = pool().all.len();
    assert!(reused.iter().any(|lock| ptr::eq(lock.entry.cell, cell)) || all < 2_000);
    drop(reused);
    drop((0..1_000).map(|_| outer()).collect::<Vec<_>>());
    assert!(pool().all.len() < all + 500, "freed cells are taken first");
}
