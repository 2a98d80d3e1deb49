//! Formation scripts: a tiny world of brokers with disks, every crash point, late comers, wiped
//! disks and clusters that meet.

use super::*;

/// One broker: its disk (directory, record) survives; its stepper does not.
struct Broker {
    id: BrokerId,
    directory: DirectoryId,
    disk: Option<Birth>,
    life: Formation,
    offers: Option<Birth>,
    done: Option<Birth>,
    refused: Vec<String>,
    /// A Persist that is not yet synced.
    writing: Option<Birth>,
    lives: u8,
}

fn directory(byte: u8) -> DirectoryId {
    DirectoryId([byte; 16])
}

impl Broker {
    fn new(id: i32, directory_byte: u8, initial: &[i32]) -> Broker {
        let own = own(id, directory(directory_byte), 0);
        let mut broker = Broker {
            id: BrokerId(id),
            directory: own.directory,
            disk: None,
            life: Formation::new(own, ids(initial), None),
            offers: None,
            done: None,
            refused: Vec::new(),
            writing: None,
            lives: 0,
        };
        broker.tell(FormationInput::Start);
        broker
    }

    fn tell(&mut self, input: FormationInput) {
        for output in self.life.step(input) {
            match output {
                FormationOutput::Persist(birth) => self.writing = Some(birth),
                FormationOutput::Offer(birth) => {
                    assert_eq!(self.disk.as_ref(), Some(&birth), "offered before it was synced");
                    self.offers = Some(birth);
                }
                FormationOutput::Done(birth) => {
                    assert_eq!(self.disk.as_ref(), Some(&birth), "done before it was synced");
                    self.done = Some(birth);
                }
                FormationOutput::Refuse { why, .. } => self.refused.push(why),
            }
        }
    }

    fn sync(&mut self) {
        if let Some(birth) = self.writing.take() {
            self.disk = Some(birth);
            self.tell(FormationInput::Persisted);
        }
    }

    /// Dies; a write under way reached the disk or not. Starts again, with a new random id.
    fn crash(&mut self, reached_disk: bool, initial: &[i32]) {
        let written = self.writing.take();
        if reached_disk && written.is_some() {
            self.disk = written;
        }
        self.lives += 1;
        let own = own(self.id.0, self.directory, self.lives);
        self.life = Formation::new(own, ids(initial), self.disk.clone());
        (self.offers, self.done) = (None, None);
        self.tell(FormationInput::Start);
    }

    fn hello(&self) -> FormationInput {
        let birth = self.offers.clone();
        FormationInput::Hello { broker: self.id, directory: self.directory, birth }
    }
}

fn own(id: i32, directory: DirectoryId, life: u8) -> Founder {
    Founder {
        broker: BrokerId(id),
        directory,
        cluster_if_founding: ClusterId([(id as u8) << 4 | (life + 1); 16]),
        cluster_required: None,
    }
}

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

fn three() -> Vec<Broker> {
    (1..=3).map(|id| Broker::new(id, 10 + id as u8, &[1, 2, 3])).collect()
}

/// `from` and `to` shake hands: both learn what the other said.
fn meet(brokers: &mut [Broker], from: usize, to: usize) {
    let (asks, answers) = (brokers[from].hello(), brokers[to].hello());
    brokers[to].tell(asks);
    brokers[from].tell(answers);
}

fn settle(brokers: &mut [Broker]) {
    for _ in 0..4 {
        for from in 0..brokers.len() {
            for to in (0..brokers.len()).filter(|to| *to != from) {
                meet(brokers, from, to);
                brokers[from].sync();
                brokers[to].sync();
            }
        }
    }
}

fn assert_one_cluster(brokers: &[Broker]) {
    let birth = brokers[0].done.as_ref().expect("the founder is done");
    for broker in brokers {
        assert_eq!(broker.done.as_ref(), Some(birth), "broker {}", broker.id);
        assert_eq!(broker.offers.as_ref(), Some(birth));
        assert_eq!(broker.refused, Vec::<String>::new());
    }
}

#[test]
fn three_brokers_form_one_cluster_and_say_for_whom_they_wait() {
    let mut brokers = three();
    assert_eq!(brokers[0].life.waiting_for(), ids(&[2, 3]));
    assert_eq!(brokers[2].life.waiting_for(), ids(&[1]));
    meet(&mut brokers, 1, 2);
    assert!(brokers.iter().all(|b| b.writing.is_none()), "only the founder founds");
    meet(&mut brokers, 0, 2);
    assert_eq!(brokers[0].life.waiting_for(), ids(&[2]));
    meet(&mut brokers, 0, 1);
    assert!(brokers[0].writing.is_some() && brokers[0].offers.is_none());
    settle(&mut brokers);
    assert_one_cluster(&brokers);
    let birth = brokers[0].done.clone().unwrap();
    assert_eq!(birth.voters(), [1, 2, 3].map(ReplicaId));
    assert_eq!(birth.replica_of(directory(13)), Some(ReplicaId(3)));
    assert!(brokers[0].life.waiting_for().is_empty());
}

#[test]
fn every_crash_point_resumes_to_one_cluster() {
    // The steps of a formation; after each, every subset of brokers crashes, and a write that
    // was under way reached the disk or not.
    let steps: [fn(&mut [Broker]); 8] = [
        |_| {},
        |b| meet(b, 0, 1),
        |b| meet(b, 0, 2),
        |b| b[0].sync(),
        |b| meet(b, 1, 0),
        |b| b[1].sync(),
        |b| meet(b, 2, 1),
        |b| b[2].sync(),
    ];
    let mut schedules = 0;
    for crash_after in 0..steps.len() {
        for subset in 1..8usize {
            for reached_disk in [false, true] {
                let mut brokers = three();
                for step in &steps[..=crash_after] {
                    step(&mut brokers);
                }
                let born_before = brokers.iter().find_map(|b| b.disk.clone());
                for (bit, broker) in brokers.iter_mut().enumerate() {
                    if subset & 1 << bit != 0 {
                        broker.crash(reached_disk, &[1, 2, 3]);
                    }
                }
                settle(&mut brokers);
                assert_one_cluster(&brokers);
                if let Some(birth) = born_before {
                    assert_eq!(brokers[0].done.as_ref(), Some(&birth), "a birth was forgotten");
                }
                schedules += 1;
            }
        }
    }
    assert_eq!(schedules, 8 * 7 * 2);
}

#[test]
fn a_broker_adopts_from_any_adopter_however_late() {
    let mut brokers = three();
    meet(&mut brokers, 0, 1);
    meet(&mut brokers, 0, 2);
    brokers[0].sync();
    meet(&mut brokers, 1, 0);
    brokers[1].sync();
    brokers[0].crash(false, &[1, 2, 3]);
    brokers[2].crash(false, &[1, 2, 3]); // never meets the founder again
    meet(&mut brokers, 2, 1);
    brokers[2].sync();
    assert_one_cluster(&brokers);
}

#[test]
fn a_wiped_disk_and_a_new_broker_join_without_a_replica() {
    let mut brokers = three();
    settle(&mut brokers);
    brokers[2] = Broker::new(3, 99, &[1, 2, 3]);
    brokers.push(Broker::new(4, 14, &[1, 2, 3]));
    assert_eq!(brokers[3].life.waiting_for(), ids(&[1, 2, 3]));
    settle(&mut brokers);
    assert_one_cluster(&brokers);
    let birth = brokers[2].done.clone().unwrap();
    assert_eq!(birth.replica_of(brokers[2].directory), None);
    assert_eq!(birth.replica_of(brokers[3].directory), None);
    assert_eq!(birth.member(BrokerId(3)).unwrap().directory, directory(13));
}

#[test]
fn a_wiped_founder_joins_the_cluster_it_founded() {
    let mut brokers = three();
    settle(&mut brokers);
    brokers[0] = Broker::new(1, 88, &[1, 2, 3]);
    settle(&mut brokers);
    assert_eq!(brokers[0].done, brokers[1].done);
    assert_eq!(brokers[0].done.as_ref().unwrap().replica_of(directory(88)), None);
}

#[test]
fn a_broker_wiped_while_the_founder_waited_counts_with_its_new_directory() {
    let mut brokers = three();
    meet(&mut brokers, 0, 2);
    brokers[2] = Broker::new(3, 77, &[1, 2, 3]);
    meet(&mut brokers, 0, 2);
    settle(&mut brokers);
    assert_one_cluster(&brokers);
    assert_eq!(brokers[0].done.as_ref().unwrap().replica_of(directory(77)), Some(ReplicaId(3)));
}

#[test]
fn two_clusters_that_meet_refuse_each_other() {
    let mut one = three();
    settle(&mut one);
    let mut other: Vec<_> = [5, 6].map(|id| Broker::new(id, 50 + id as u8, &[5, 6])).into();
    settle(&mut other);
    let mut pair = vec![one.remove(0), other.remove(0)];
    let before = pair[0].done.clone();
    meet(&mut pair, 0, 1);
    assert_eq!(pair[0].done, before);
    for broker in &pair {
        assert!(broker.refused[0].contains("two clusters never merge"), "{:?}", broker.refused);
        assert!(broker.writing.is_none());
    }
}

#[test]
fn a_configured_cluster_id_is_used_and_no_other_accepted() {
    let named = ClusterId([0xee; 16]);
    let founder = Founder { cluster_required: Some(named), ..own(1, directory(1), 0) };
    let mut formation = Formation::new(founder, ids(&[1]), None);
    let birth = match formation.step(FormationInput::Start).as_slice() {
        [FormationOutput::Persist(birth)] => birth.clone(),
        other => panic!("a lone broker founds at once, not {other:?}"),
    };
    assert_eq!(birth.cluster, named);

    let joiner = Founder { cluster_required: Some(ClusterId([1; 16])), ..own(2, directory(2), 0) };
    let mut formation = Formation::new(joiner, ids(&[1]), None);
    let hello =
        FormationInput::Hello { broker: BrokerId(1), directory: directory(1), birth: Some(birth) };
    let refused = formation.step(hello);
    assert!(matches!(&refused[..], [FormationOutput::Refuse { .. }]), "{refused:?}");
}

#[test]
fn copies_of_a_directory_are_refused() {
    let mut founder = Formation::new(own(1, directory(1), 0), ids(&[1, 2]), None);
    let copy = FormationInput::Hello { broker: BrokerId(2), directory: directory(1), birth: None };
    assert!(matches!(&founder.step(copy)[..], [FormationOutput::Refuse { .. }]));
    let double =
        FormationInput::Hello { broker: BrokerId(1), directory: directory(9), birth: None };
    assert!(matches!(&founder.step(double)[..], [FormationOutput::Refuse { .. }]));

    let born = Birth::new(ClusterId([7; 16]), &[(BrokerId(1), directory(1))].into());
    let mut moved = Formation::new(own(2, directory(1), 0), ids(&[1, 2]), Some(born));
    assert!(matches!(&moved.step(FormationInput::Start)[..], [FormationOutput::Refuse { .. }]));
}

#[test]
fn beyond_five_brokers_the_rest_are_learners() {
    let directories = (1..=7).map(|id| (BrokerId(id * 10), directory(id as u8))).collect();
    let birth = Birth::new(ClusterId([7; 16]), &directories);
    assert_eq!(birth.voters(), (1..=5).map(ReplicaId).collect::<Vec<_>>());
    assert_eq!(birth.learners(), vec![ReplicaId(6), ReplicaId(7)]);
    assert_eq!(birth.member(BrokerId(70)).unwrap().replica, ReplicaId(7));
}

#[test]
fn a_birth_record_survives_its_bytes_and_no_damaged_byte_is_taken() {
    let directories = (1..=6).map(|id| (BrokerId(id), directory(id as u8))).collect();
    let birth = Birth::new(ClusterId([7; 16]), &directories);
    let bytes = birth.encode();
    assert_eq!(Birth::decode(&bytes), Ok(birth));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(Birth::decode(&damaged).is_err(), "byte {at}");
        assert!(Birth::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    let mut newer = bytes.clone();
    newer[9] = 2;
    assert_eq!(Birth::decode(&newer), Err(BirthError::Version(2)));
}
