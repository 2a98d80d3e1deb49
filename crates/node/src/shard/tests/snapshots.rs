//! A replica that is filled from a snapshot, and the leader that offers it.

use super::*;

impl Trio {
    /// One input, its turn and all that follows.
    pub(super) fn tell(&mut self, at: usize, input: Input<u32>) {
        let now = self.now();
        let (mut out, mut mail) = (Out::default(), Vec::new());
        self.shards[at].step(now, input, &mut out);
        self.take(at, &mut out, &mut mail);
        self.deliver(mail);
    }

    /// The third replica misses what the others have dropped; the snapshot that the first offers.
    fn left_behind(&mut self) -> storage::Manifest {
        self.serve();
        self.produce(0, 100, 70, 0, -1);
        self.pass(500);
        self.cut[2] = true;
        (1..6).for_each(|n| self.produce(0, 100 + n, 70, n as i32, -1));
        self.pass(500);
        for at in 0..2 {
            let index = self.shards[at].member(GROUP).unwrap().group.applied_index();
            let (group, start_index) = (GROUP, index - 2);
            self.tell(at, Input::Readable { group, index, start_index, segments: None });
        }
        self.segments.iter_mut().for_each(Vec::clear);
        self.cut[2] = false;
        for _ in 0..100 {
            self.pass(50);
            let made = self.segments[0].iter().find_map(|work| match work {
                SegmentWork::Manifest { mark } => Some(mark.clone()),
                _ => None,
            });
            if let Some(mark) = made {
                return self.offer(*mark);
            }
        }
        panic!("no snapshot is asked for");
    }

    fn offer(&mut self, mark: GroupMark) -> storage::Manifest {
        let group = &self.shards[0].member(GROUP).unwrap().group;
        let (start_index, index) = (group.first_index() - 1, mark.applied_index);
        let term_starts = group.term_runs().iter().map(|(first_index, term)| storage::TermStart {
            first_index: *first_index,
            term: *term,
            start_offset: 0,
        });
        let position = storage::SegmentPosition {
            last_index: index,
            start_index,
            terms: term_starts.collect(),
            home: index,
            ..Default::default()
        };
        let conf_state = conf_state_from(&mark.conf_state).unwrap();
        let mut snapshot = consensus::eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (index, mark.applied_term);
        metadata.set_conf_state(conf_state);
        self.tell(0, Input::Offer { group: GROUP, offer: Some(Box::new(snapshot)) });
        storage::Manifest {
            group: GROUP,
            term: mark.applied_term,
            conf_state: mark.conf_state,
            machine: mark.machine,
            position,
            sums: Vec::new(),
        }
    }

    fn arrived(&mut self) -> SnapshotIn {
        for _ in 0..100 {
            if let Some(snapshot) = self.snapshots.pop() {
                return snapshot;
            }
            self.pass(50);
        }
        panic!("no snapshot arrived");
    }

    fn fetched(&mut self, snapshot: SnapshotIn, manifest: &storage::Manifest, reply: u32) {
        let SnapshotIn { group, sender, message, .. } = snapshot;
        let manifest = Box::new(manifest.clone());
        self.tell(2, Input::Fetched { group, sender, message, manifest, reply });
    }

    /// How far the leader believes the third replica to be.
    fn matched(&self) -> u64 {
        let progress = self.shards[0].member(GROUP).unwrap().group.progress();
        progress.iter().find(|peer| peer.replica == ReplicaId(3)).unwrap().matched
    }

    fn installs(&self) -> usize {
        let installs = |work: &&SegmentWork| matches!(work, SegmentWork::Install { .. });
        self.segments[2].iter().filter(installs).count()
    }

    fn installed(&mut self, index: u64) {
        let news = Installed { index, start_index: index - 2, segments: Vec::new() };
        self.tell(2, Input::Installed { group: GROUP, news });
    }
}

#[test]
fn a_snapshot_is_durable_for_raft_once_a_checkpoint_names_it_and_not_before() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let index = manifest.index();
    let snapshot = trio.arrived();
    assert_eq!((snapshot.broker, snapshot.replica), (BrokerId(1), ReplicaId(3)));
    let before = trio.shards[2].closing(&HashMap::from([(GROUP, u64::MAX)])).remove(0);
    trio.slow[2] = true;
    trio.fetched(snapshot, &manifest, 1);
    assert_eq!(trio.truncated_from, Some(index + 1), "what lies above it in the journal is dead");
    assert_eq!(trio.installs(), 0, "its write is not durable");
    trio.slow[2] = false;
    trio.settle();
    assert_eq!(trio.installs(), 1);
    trio.segments[2].clear();
    // The journal has it, and a term of its own, for all that follows.
    trio.pass(3_000);
    trio.tell(2, Input::Durable { done: vec![(GROUP, u64::MAX)], written_ns: 0 });
    assert!(trio.matched() < index, "a restart would find the old log");
    assert_eq!((trio.installs(), trio.answers.contains_key(&1)), (0, false));
    let member = trio.shards[2].member(GROUP).unwrap();
    assert!(member.machine().applied() < index && member.published_offset() < 6);
    trio.tell(2, Input::Checkpoint { id: 9 });
    let marked = trio.segments[2].iter().any(|work| matches!(work, SegmentWork::Mark { .. }));
    assert!(!marked, "a mark of the old log would go back behind the snapshot");
    let end = trio.shards[2].closing(&HashMap::from([(GROUP, u64::MAX)])).remove(0);
    assert_eq!((end.last_index, end.durable), (before.last_index, before.last_index));

    trio.installed(index);
    assert!(trio.matched() >= index);
    assert!(matches!(trio.answers.get(&1), Some(Answer::Done)));
    let member = trio.shards[2].member(GROUP).unwrap();
    assert_eq!((member.machine().applied(), member.published_offset()), (index, 6));
    assert_eq!(member.group.first_index(), index - 1);
    // It goes on with entries, is in sync and may lead.
    trio.produce(0, 200, 70, 6, -1);
    trio.pass(500);
    let applied = |at: usize| trio.shards[at].member(GROUP).unwrap().machine().applied();
    assert_eq!(applied(2), applied(0));
    let now = trio.now();
    trio.shards[0].members.get_mut(&GROUP).unwrap().group.transfer_leader(now, Some(ReplicaId(3)));
    trio.shards[0].dirty.insert(GROUP);
    trio.pass(500);
    assert!(trio.serves(2));
    trio.produce(2, 201, 70, 7, -1);
    assert_eq!(trio.offset(201), Some(7), "dedupe came with the machine");
}

#[test]
fn a_panic_between_a_snapshot_and_its_checkpoint_is_left_to_a_restart() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let snapshot = trio.arrived();
    trio.fetched(snapshot, &manifest, 1);
    let now = trio.now();
    let mut out = Out::default();
    trio.shards[2].step(now, Input::Panic { group: GROUP }, &mut out);
    trio.shards[2].flush(now, now.boot_ns, &mut out);
    assert!(trio.shards[2].quarantined().contains_key(&GROUP));
    assert!(out.rebuilds.is_empty(), "neither the old machine nor the new one fits the journal");
}

#[test]
fn a_snapshot_that_is_not_what_it_says_is_refused_and_the_replica_is_filled_by_the_next() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let snapshot = trio.arrived();
    let no_machine = storage::Manifest { machine: Bytes::from_static(b"?"), ..manifest.clone() };
    trio.fetched(snapshot.clone(), &no_machine, 1);
    assert_eq!(trio.refused(1), Some(ErrorCode::InvalidRequest));
    let mut no_terms = manifest.clone();
    no_terms.position.terms.clear();
    trio.fetched(snapshot.clone(), &no_terms, 2);
    assert_eq!(trio.refused(2), Some(ErrorCode::InvalidRequest));
    assert!(!trio.shards[2].member(GROUP).unwrap().group.is_installing());
    trio.fetched(snapshot.clone(), &manifest, 3);
    trio.installed(manifest.index());
    assert!(matches!(trio.answers.get(&3), Some(Answer::Done)));
    // Once it has it, raft answers the same message by itself.
    let SnapshotIn { group, sender, replica, broker, message, .. } = snapshot;
    let items = vec![RaftIn { group, from: sender, to: replica, message: *message }];
    trio.tell(2, Input::Raft { from: broker, items });
    assert!(trio.snapshots.is_empty());
}

#[test]
fn a_transfer_that_is_given_up_is_sent_again_and_only_its_own_replica_says_so() {
    let mut trio = Trio::new(1);
    trio.left_behind();
    trio.arrived();
    trio.pass(1_000);
    let (group, peer) = (GROUP, ReplicaId(3));
    trio.tell(0, Input::SnapshotFailed { group, peer, from: BrokerId(2) });
    trio.pass(1_000);
    assert!(trio.snapshots.is_empty(), "another broker speaks for it");
    trio.tell(0, Input::SnapshotFailed { group, peer, from: BrokerId(3) });
    trio.arrived();
    // A transfer that shows signs of life is waited for.
    for _ in 0..30 {
        trio.pass(1_000);
        trio.tell(0, Input::SnapshotRead { group, peer, from: BrokerId(3) });
    }
    assert!(trio.snapshots.is_empty());
    trio.pass(limits::SNAPSHOT_SILENCE_MS);
    trio.arrived();
}

#[test]
fn what_a_leader_offers_goes_when_nobody_needs_it() {
    let mut trio = Trio::new(1);
    let manifest = trio.left_behind();
    let snapshot = trio.arrived();
    let asked = |trio: &Trio| {
        let asked = |work: &&SegmentWork| matches!(work, SegmentWork::Manifest { .. });
        trio.segments[0].iter().filter(asked).count()
    };
    assert_eq!(asked(&trio), 1, "one is made, however often raft asks");
    trio.fetched(snapshot, &manifest, 1);
    trio.installed(manifest.index());
    let offered =
        |trio: &Trio| trio.shards[0].member(GROUP).unwrap().group.snapshot_offered().is_some();
    assert!(offered(&trio));
    trio.pass(limits::SNAPSHOT_IDLE_MS + 1_000);
    assert!(!offered(&trio));
    assert_eq!(asked(&trio), 1);
}

#[test]
fn a_leader_that_lacks_a_majority_offers_a_snapshot_to_who_would_make_one() {
    let mut trio = Trio::new(1);
    trio.left_behind();
    trio.cut[0] = true;
    trio.snapshots.clear();
    trio.pass(20_000);
    let second = &trio.shards[1].member(GROUP).unwrap().group;
    assert_eq!(second.role(), consensus::Role::Leader, "the third one votes for it");
    assert!(!trio.serves(1), "and has not what it would need to follow");
    let asked = |work: &SegmentWork| matches!(work, SegmentWork::Manifest { .. });
    assert!(trio.segments[1].iter().any(asked), "nobody would ever serve again");
}
