//! Tests of the codec, and the generator of messages they share: every declared structure
//! can be drawn from a seed, filling exactly the fields its version knows.

mod differential;
mod hostile;
mod protocol;

use bytes::Bytes;
use model::{DirectoryId, ErrorCode, TopicId};

use crate::{Decoder, Encoder, Message, Shape, WireError};

/// A stream of numbers that depends on nothing but its seed (splitmix64).
pub(crate) struct Source(u64);

impl Source {
    pub(crate) fn new(seed: u64) -> Source {
        Source(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// A value drawn from a seed, valid in a version.
pub(crate) trait Arbitrary: Sized {
    fn arbitrary(source: &mut Source, shape: Shape) -> Self;
}

macro_rules! arbitrary_integer {
    ($($ty:ty)*) => {$(
        impl Arbitrary for $ty {
            fn arbitrary(source: &mut Source, _: Shape) -> Self {
                match source.below(8) {
                    0 => <$ty>::MIN,
                    1 => <$ty>::MAX,
                    2 => !0,
                    3 => 0,
                    _ => source.next() as $ty,
                }
            }
        }
    )*};
}
arbitrary_integer!(i8 i16 i32 i64 u16);

impl Arbitrary for bool {
    fn arbitrary(source: &mut Source, _: Shape) -> Self {
        source.below(2) == 1
    }
}

impl Arbitrary for ErrorCode {
    fn arbitrary(source: &mut Source, _: Shape) -> Self {
        ErrorCode::ALL[source.below(ErrorCode::ALL.len())]
    }
}

fn uuid(source: &mut Source) -> [u8; 16] {
    let (high, low) = (source.next(), source.next());
    if high % 4 == 0 { [0; 16] } else { (u128::from(high) << 64 | u128::from(low)).to_be_bytes() }
}

impl Arbitrary for TopicId {
    fn arbitrary(source: &mut Source, _: Shape) -> Self {
        TopicId(uuid(source))
    }
}

impl Arbitrary for DirectoryId {
    fn arbitrary(source: &mut Source, _: Shape) -> Self {
        DirectoryId(uuid(source))
    }
}

impl Arbitrary for String {
    fn arbitrary(source: &mut Source, _: Shape) -> Self {
        // Long enough now and then for a compact length of two bytes.
        let len = if source.below(16) == 0 { 200 } else { source.below(9) };
        (0..len).map(|_| ['a', 'Z', '0', '.', 'ü', '錠'][source.below(6)]).collect()
    }
}

impl Arbitrary for Bytes {
    fn arbitrary(source: &mut Source, _: Shape) -> Self {
        // On both sides of the length from which bytes are spliced in.
        let len = [0, 1, 100, 511, 512, 3000][source.below(6)];
        (0..len).map(|_| source.next() as u8).collect()
    }
}

impl<T: Arbitrary> Arbitrary for Vec<T> {
    fn arbitrary(source: &mut Source, shape: Shape) -> Self {
        (0..source.below(4)).map(|_| T::arbitrary(source, shape.nullable(false))).collect()
    }
}

impl<T: Arbitrary> Arbitrary for Option<T> {
    fn arbitrary(source: &mut Source, shape: Shape) -> Self {
        (!shape.nullable || source.below(3) > 0).then(|| T::arbitrary(source, shape))
    }
}

/// A message of one version.
pub(crate) fn draw<M: Message + Arbitrary>(seed: u64, version: i16) -> M {
    let shape = M::shape(version).expect("a declared version");
    M::arbitrary(&mut Source::new(seed), shape)
}

pub(crate) fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, WireError> {
    let mut encoder = Encoder::new();
    message.encode(&mut encoder, version)?;
    Ok(encoder.into_chunks().concat().into())
}

/// Decodes a body that has to fill its bytes.
pub(crate) fn decode<M: Message>(bytes: &Bytes, version: i16) -> Result<M, WireError> {
    let mut decoder = Decoder::new(bytes.clone());
    let message = M::decode(&mut decoder, version)?;
    decoder.finish()?;
    Ok(message)
}

/// A test `$check::<Ours, Theirs>()` for every message, theirs being kafka-protocol's.
macro_rules! every_message {
    ($check:ident) => {
        $crate::tests::every_message! { $check
            api_versions ApiVersionsRequest ApiVersionsResponse,
            create_topics CreateTopicsRequest CreateTopicsResponse,
            delete_topics DeleteTopicsRequest DeleteTopicsResponse,
            describe_cluster DescribeClusterRequest DescribeClusterResponse,
            describe_configs DescribeConfigsRequest DescribeConfigsResponse,
            fetch FetchRequest FetchResponse,
            init_producer_id InitProducerIdRequest InitProducerIdResponse,
            list_offsets ListOffsetsRequest ListOffsetsResponse,
            metadata MetadataRequest MetadataResponse,
            offset_for_leader_epoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse,
            produce ProduceRequest ProduceResponse,
            delete_groups DeleteGroupsRequest DeleteGroupsResponse,
            describe_groups DescribeGroupsRequest DescribeGroupsResponse,
            find_coordinator FindCoordinatorRequest FindCoordinatorResponse,
            heartbeat HeartbeatRequest HeartbeatResponse,
            join_group JoinGroupRequest JoinGroupResponse,
            leave_group LeaveGroupRequest LeaveGroupResponse,
            list_groups ListGroupsRequest ListGroupsResponse,
            offset_commit OffsetCommitRequest OffsetCommitResponse,
            offset_delete OffsetDeleteRequest OffsetDeleteResponse,
            offset_fetch OffsetFetchRequest OffsetFetchResponse,
            sync_group SyncGroupRequest SyncGroupResponse,
            alter_configs AlterConfigsRequest AlterConfigsResponse,
            alter_partition_reassignments AlterPartitionReassignmentsRequest AlterPartitionReassignmentsResponse,
            create_partitions CreatePartitionsRequest CreatePartitionsResponse,
            delete_records DeleteRecordsRequest DeleteRecordsResponse,
            describe_log_dirs DescribeLogDirsRequest DescribeLogDirsResponse,
            describe_producers DescribeProducersRequest DescribeProducersResponse,
            describe_quorum DescribeQuorumRequest DescribeQuorumResponse,
            describe_topic_partitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse,
            elect_leaders ElectLeadersRequest ElectLeadersResponse,
            incremental_alter_configs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse,
            list_config_resources ListConfigResourcesRequest ListConfigResourcesResponse,
            list_partition_reassignments ListPartitionReassignmentsRequest ListPartitionReassignmentsResponse,
        }
    };
    ($check:ident $($module:ident $request:ident $response:ident,)*) => {
        $( mod $module {
            #[test]
            fn request() {
                use kafka_protocol::messages::$request as Theirs;
                super::$check::<crate::api::$module::$request, Theirs>();
            }
            #[test]
            fn response() {
                use kafka_protocol::messages::$response as Theirs;
                super::$check::<crate::api::$module::$response, Theirs>();
            }
        } )*
        /// How many APIs the list above holds.
        const APIS: usize = [$(stringify!($module)),*].len();
    };
}
pub(crate) use every_message;
