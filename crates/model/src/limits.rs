//! Every bound in the system, in one file. A queue, batch, retry or length without a line
//! here is a bug. Values that operators may change are defaults; the rest are fixed.

/// `socket.request.max.bytes`: the largest frame a client may send.
pub const REQUEST_BYTES_MAX: usize = 100 << 20;
/// The largest frame before authentication.
pub const UNAUTHENTICATED_REQUEST_BYTES_MAX: usize = 512 << 10;
/// Elements of one array in a request.
pub const ARRAY_ELEMENTS_MAX: usize = 1_000_000;
/// Tagged fields of one structure.
pub const TAGGED_FIELDS_MAX: usize = 10_000;
/// `message.max.bytes`: the largest record batch of a topic by default.
pub const MESSAGE_BYTES_MAX: usize = 1_048_588;
/// The largest value `max.message.bytes` may have: a batch must fit a journal file twice and an
/// envelope between brokers.
pub const MESSAGE_BYTES_CEILING: i64 = 8 << 20;
/// Bytes one compressed batch may open to, whatever its ratio.
pub const OPENED_BYTES_MAX: usize = 128 << 20;
/// ... and per compressed byte: a little more than gzip can reach, so only bombs meet it.
pub const OPENED_RATIO_MAX: usize = 1_100;
/// ... and what a batch of a few bytes may open to all the same.
pub const OPENED_BYTES_MIN: usize = 64 << 10;
/// Snappy's blocks have to be opened as a whole: bytes of one.
pub const OPENED_BLOCK_BYTES_MAX: usize = 32 << 20;
/// History a zstd frame may ask to be kept (what RFC 8878 recommends to support).
pub const OPENED_WINDOW_BYTES_MAX: usize = 8 << 20;
/// ... or only asked for, by a frame that then opens to no more than that: what Kafka's own
/// decoder goes along with (zstd's level 22).
pub const OPENED_WINDOW_ASKED_MAX: usize = 128 << 20;
/// Compressed batches up to this size are opened where they are read, as long as they open to no
/// more than [`OPENED_INLINE_BYTES_MAX`]: a millisecond. Others go to a thread for such work.
pub const OPENED_INLINE_COMPRESSED_MAX: usize = 64 << 10;
pub const OPENED_INLINE_BYTES_MAX: usize = 256 << 10;
/// Compressed batches that are open at the same time. Their memory has this bound of its own
/// and is no part of the budget: who waits for budget while it holds some waits in a circle.
pub const OPENED_AT_ONCE_MAX: usize = 2;
/// `max.connections` of one broker.
pub const CONNECTIONS_MAX: usize = 10_000;
/// `max.connections.per.ip`: as in Kafka no limit of its own, until an operator sets one.
pub const CONNECTIONS_PER_IP_MAX: usize = i32::MAX as usize;
/// Requests of one connection that are read but not yet answered.
pub const CONNECTION_PIPELINE_MAX: usize = 64;
/// Bytes a connection reads ahead into a buffer of its own; larger frames go where they stay.
pub const CONNECTION_READ_BUFFER_BYTES: usize = 4 << 10;
/// `connections.max.idle.ms`: nothing asked and nothing owed for this long ends a connection.
pub const CONNECTION_IDLE_MS_MAX: u64 = 600_000;
/// A frame that has begun brings a byte at least this often ...
pub const FRAME_STALL_MS_MAX: u64 = 10_000;
/// ... and is whole after this long, plus one millisecond per [`FRAME_BYTES_PER_MS_MIN`]: until
/// then it holds a share of the memory budget.
pub const FRAME_MS_MAX: u64 = 20_000;
/// The slowest client whose large frames are waited for: 1 MiB/s.
pub const FRAME_BYTES_PER_MS_MIN: usize = 1 << 10;
/// A frame is charged with at most the budget's limit divided by this, so that one length
/// prefix can never ask for more than caches leave; frames beyond it are undercharged.
pub const FRAME_BUDGET_DIVISOR: usize = 4;
/// Requests up to this size, Produce excepted, may use the control reserve: consumers and
/// operators go on while producers wait for memory.
pub const SMALL_REQUEST_BYTES_MAX: usize = 64 << 10;
/// Slices of one vectored write.
pub const WRITE_SLICES_MAX: usize = 64;
/// After a failed accept (no descriptors left) the next one waits this long.
pub const ACCEPT_RETRY_MS: u64 = 100;
/// Longest time a client may ask a broker to work on, or wait with, one request.
pub const REQUEST_MS_MAX: u64 = 300_000;
/// acks 0 and 1 wait for the leader's own disk, whatever the request's time-out says.
pub const LEADER_ACK_MS_MAX: u64 = 30_000;
/// Longest wait for a guarded read (ListOffsets, offsets beyond the end of a log).
pub const GUARD_MS_MAX: u64 = 5_000;
/// Guarded reads one request has in flight.
pub const GUARDS_IN_FLIGHT_MAX: usize = 64;
/// `fetch.max.bytes` of this broker: record bytes of one reply.
pub const FETCH_RESPONSE_BYTES_MAX: usize = 8 << 20;
/// Record bytes in all replies that are not yet written. When it is spent, a fetch gets the one
/// batch Kafka promises (KIP-74): consumers that do not read must not stop producers.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// A fetch that waits for more than one byte looks again at most this often.
pub const FETCH_RECHECK_MS: u64 = 5;
/// How long a change of configs, which names no time-out of its own, is tried.
pub const CONFIG_ALTER_MS_MAX: u64 = 30_000;
/// `max.request.partition.size.limit`: partitions on one page of DescribeTopicPartitions.
pub const DESCRIBED_PARTITIONS_MAX: usize = 2_000;
/// The metadata leader is asked for at least this long, also by clients that do not wait.
pub const TOPIC_ADMIN_MS_MIN: u64 = 5_000;
/// A Metadata request that created topics waits this long for their leaders.
pub const TOPIC_SERVED_MS_MAX: u64 = 1_000;
/// ... and looks this often.
pub const TOPIC_SERVED_POLL_MS: u64 = 10;

/// One memory budget per broker: frames, proposals, unstable entries, peer queues, tail cache.
pub const MEMORY_BUDGET_BYTES: usize = 64 << 20;
/// Share of the budget the tail cache may hold.
pub const TAIL_CACHE_BYTES_MAX: usize = 24 << 20;

/// Inputs one turn of a shard takes.
pub const TURN_INPUTS_MAX: usize = 256;
/// Time one turn of a shard takes inputs for, microseconds.
pub const TURN_US_MAX: u64 = 1_000;
/// Inputs that wait in a shard's client lane.
pub const SHARD_CLIENT_QUEUE_MAX: usize = 4_096;
/// Inputs that wait in a shard's raft lane.
pub const SHARD_RAFT_QUEUE_MAX: usize = 16_384;
/// Requests one partition holds before they are stamped, in flight included.
pub const PARTITION_REQUESTS_MAX: usize = 8_192;

/// raft: bytes of one MsgAppend.
pub const APPEND_BYTES_MAX: u64 = 1 << 20;
/// raft: MsgAppends in flight to one peer.
pub const INFLIGHT_APPENDS_MAX: usize = 128;
/// Bytes of MsgAppends in flight to one peer of one group; one turn may overshoot it.
pub const INFLIGHT_APPEND_BYTES_MAX: u64 = 8 << 20;
/// raft: bytes of entries proposed and not yet committed, per group.
pub const UNCOMMITTED_BYTES_MAX: u64 = 32 << 20;
/// raft: bytes of committed entries handed out by one Ready.
pub const COMMITTED_BYTES_PER_READY_MAX: u64 = 8 << 20;
/// Applied entries a group's log view keeps in memory for followers that are nearly up to date.
pub const LOG_VIEW_KEEP_BYTES: usize = 1 << 20;
/// The same for all groups of one shard together: they hold the memory budget of their batches,
/// and a dead follower must not spend it.
pub const LOG_VIEWS_KEEP_BYTES: usize = 8 << 20;
/// Bytes of older entries read from segments for one lagging follower at a time.
pub const CATCH_UP_BYTES_MAX: u64 = 4 << 20;
/// A transfer of a snapshot that shows no sign of life for so long has failed, milliseconds.
pub const SNAPSHOT_SILENCE_MS: u64 = 10_000;
/// A leader begins to make snapshots of one group at most this often, milliseconds.
pub const SNAPSHOT_EVERY_MS: u64 = 2_000;
/// ... and keeps one for so long after somebody last needed it ...
pub const SNAPSHOT_IDLE_MS: u64 = 10_000;
/// ... but not for so long without a reader.
pub const SNAPSHOT_UNREAD_MS: u64 = 300_000;
/// Retention keeps what follows upon a snapshot for whoever is being filled with it, at most
/// this long.
pub const SNAPSHOT_HOLD_MS: u64 = 1_800_000;
/// Snapshots one broker offers at a time ...
pub const SNAPSHOT_OFFERS_MAX: usize = 64;
/// ... and bytes of their manifests (names, positions, machines) in memory.
pub const SNAPSHOT_MANIFESTS_BYTES_MAX: usize = 64 << 20;
/// Snapshots one broker computes checksums for, or reads chunks of for peers, at a time.
pub const SNAPSHOT_READS_MAX: usize = 2;
/// Snapshots one broker fetches at a time; others wait.
pub const SNAPSHOT_TRANSFERS_MAX: usize = 2;
/// Bytes of snapshots one broker fetches per second.
pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 128 << 20;
/// A transfer is given up after this many failures in a row without a byte between them ...
pub const SNAPSHOT_FAILURES_MAX: u32 = 8;
/// ... the first of which is followed by such a pause, doubled each time ...
pub const SNAPSHOT_BACKOFF_MS_MIN: u64 = 50;
/// ... up to this one.
pub const SNAPSHOT_BACKOFF_MS_MAX: u64 = 2_000;
/// After it gave up, a replica lets its leader wait so long for the next attempt.
pub const SNAPSHOT_REST_MS: u64 = 5_000;
/// How long one read of a snapshot is waited for.
pub const SNAPSHOT_READ_MS_MAX: u64 = 5_000;
/// A transfer that fetches nothing, because it waits or syncs, says this often that it lives.
pub const SNAPSHOT_SIGN_MS: u64 = 2_000;
/// Retention waits for a replica that was heard from within this time; others are filled by a
/// snapshot.
pub const RETENTION_WAITS_MS: u64 = 60_000;
/// Bytes of a snapshot's files read, sent or fetched at a time.
pub const TRANSFER_READ_BYTES: usize = 1 << 20;
/// Files one snapshot may have.
pub const MANIFEST_FILES_MAX: usize = 1_000_000;
/// Replicas of topics that clients do not make, where there are so many brokers.
pub const INTERNAL_REPLICAS_MAX: usize = 3;
/// Voters one group can have; also the highest rank in the election stagger.
pub const GROUP_VOTERS_MAX: usize = 16;
/// A learner this many entries behind may become a voter.
pub const LEARNER_LAG_ENTRIES_MAX: u64 = 64;
/// Reports of departed replicas that wait to be told to metadata.
pub const DEPARTED_MAX: usize = 1_024;
/// A leader reports who left its group at most this often, milliseconds.
pub const DEPARTED_REPORT_MS: u64 = 1_000;
/// A replica that says it cannot be trusted is given up by its leader no sooner than this,
/// milliseconds: until then others may say the same.
pub const RENEW_AFTER_MS: u64 = 1_500;
/// A follower was heard from lately if it was within this time, milliseconds.
pub const HEARD_LATELY_MS: u64 = 1_000;
/// Replicas of one broker that are replaced at a time because they cannot be trusted or used.
pub const RENEWALS_MAX: usize = 32;
/// Reads of older entries one group has in flight for lagging followers.
pub const GROUP_FETCHES_MAX: usize = 4;
/// Followers that wait for the same read of older entries.
pub const FETCH_WAITERS_MAX: usize = 4;

/// Bytes of raft messages that wait for one peer on its bulk lane.
pub const PEER_BULK_BYTES_MAX: usize = 16 << 20;
/// Messages that wait for one peer on its control lane.
pub const PEER_CONTROL_MESSAGES_MAX: usize = 65_536;
/// Bytes of one envelope between brokers.
pub const ENVELOPE_BYTES_MAX: usize = 16 << 20;
/// An envelope is closed once it holds this much, although more is queued.
pub const ENVELOPE_TARGET_BYTES: usize = 1 << 20;
/// Items of one envelope.
pub const ENVELOPE_ITEMS_MAX: usize = 65_536;
/// A received raft message of at least this many bytes may keep its whole envelope in memory.
pub const PEER_PIN_BYTES_MIN: usize = 64 << 10;
/// Bytes of one gossip message, of one call between brokers and of its answer.
pub const PEER_CALL_BYTES_MAX: usize = 8 << 20;
/// HTTP/2 window of one stream between brokers.
pub const PEER_STREAM_WINDOW_BYTES: u32 = 8 << 20;
/// HTTP/2 window of one connection between brokers.
pub const PEER_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// HTTP/2 frame between brokers.
pub const PEER_FRAME_BYTES: u32 = 64 << 10;
/// Streams one connection between brokers may have open: a lane, handshakes and calls.
pub const PEER_STREAMS_MAX: u32 = 1_024;
/// Brokers one broker keeps an identity for.
pub const PEERS_MAX: usize = 1_024;
/// First wait before a peer is tried again, doubled up to [`PEER_BACKOFF_MS_MAX`].
pub const PEER_BACKOFF_MS_MIN: u64 = 50;
/// Longest wait before a peer is tried again.
pub const PEER_BACKOFF_MS_MAX: u64 = 1_000;
/// Longest wait for a TCP connection to a peer.
pub const PEER_CONNECT_MS_MAX: u64 = 1_000;
/// Longest wait for a peer's half of a handshake.
pub const PEER_HANDSHAKE_MS_MAX: u64 = 2_000;
/// A peer whose connection just closed is tried this often at first ...
pub const PEER_EVIDENCE_RETRY_MS: u64 = 5;
/// ... for this long: a dying process may close its connections before its listener.
pub const PEER_EVIDENCE_WINDOW_MS: u64 = 300;
/// A peer whose process died is tried this often.
pub const PEER_DEAD_RETRY_MS: u64 = 100;
/// A broker without a birth record asks its peers for one this often.
pub const PEER_UNBORN_HELLO_MS: u64 = 250;
/// HTTP/2 ping to a peer after this much silence, and the time it has to answer.
pub const PEER_KEEPALIVE_MS: u64 = 5_000;
/// Longest wait for queued messages to leave at shutdown.
pub const PEER_DRAIN_MS_MAX: u64 = 500;
/// Voters of the metadata group; further initial brokers are its learners.
pub const METADATA_VOTERS_MAX: usize = 5;
/// Bytes of a birth record.
pub const BIRTH_BYTES_MAX: usize = 64 << 10;
/// Share of the memory budget that only control traffic may use.
pub const CONTROL_RESERVE_BYTES: usize = 4 << 20;

/// `producer.state` entries kept per partition.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// A producer silent for so long is forgotten (`producer.id.expiration.ms`).
pub const PRODUCER_EXPIRATION_MS: u64 = 86_400_000;
/// Batches remembered per producer for dedupe (KIP-98).
pub const PRODUCER_BATCHES_KEPT: usize = 5;
/// Leader epochs a partition remembers; the oldest are forgotten first.
pub const LEADER_EPOCHS_PER_PARTITION_MAX: usize = 4_096;
/// Producer ids handed to a broker at once.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;
/// Partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;
/// Partitions of the cluster.
pub const PARTITIONS_MAX: usize = 100_000;
/// One encoded metadata request or command.
pub const METADATA_COMMAND_BYTES_MAX: usize = 8 << 20;
/// Brokers the metadata machine registers.
pub const BROKERS_MAX: usize = 1_000;
/// Listeners of one broker.
pub const LISTENERS_PER_BROKER_MAX: usize = 16;
/// Length of a host, a listener name or a rack.
pub const BROKER_TEXT_LEN_MAX: usize = 255;
/// Length of a peer's `host:port` for people.
pub const ADMIN_ADDRESS_LEN_MAX: usize = BROKER_TEXT_LEN_MAX + 8;
/// Length of one config value.
pub const CONFIG_VALUE_LEN_MAX: usize = 32_767;
/// Length of a topic name.
pub const TOPIC_NAME_LEN_MAX: usize = 249;

/// Block size of journal writes.
pub const JOURNAL_BLOCK_BYTES: usize = 4096;
/// One journal file.
pub const JOURNAL_FILE_BYTES: u64 = 64 << 20;
/// A journal file at least: twice the largest batch and its frame.
pub const JOURNAL_FILE_BYTES_MIN: u64 = 20 << 20;
/// The journal as a whole, by default.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 30;
/// Bytes one journal sync covers.
pub const JOURNAL_SYNC_BYTES_MAX: usize = 8 << 20;
/// Bytes that wait for the journal before the client lane closes.
pub const JOURNAL_QUEUE_BYTES_MAX: usize = 32 << 20;
/// Distance between two entries of a segment's sidecar.
pub const SIDECAR_STRIDE_BYTES: u64 = 4096;
/// A sidecar larger than this starts a new segment, so that groups without batches are cut in
/// whole files too.
pub const SIDECAR_BYTES_MAX: u64 = 16 << 20;
/// `log.segment.bytes`.
pub const SEGMENT_BYTES: u64 = 1 << 30;
/// Committed bytes that a shard gathers, until its next tick at the latest, before they go to the
/// segment thread ...
pub const SEGMENT_GATHER_BYTES: usize = 256 << 10;
/// ... and groups that it gathers for.
pub const SEGMENT_GATHER_GROUPS: usize = 256;
/// Open segment descriptors.
pub const OPEN_SEGMENTS_MAX: usize = 1_024;
/// Free bytes below which a broker refuses new records but keeps reads, votes and deletes.
pub const DISK_RESERVE_BYTES: u64 = 256 << 20;

/// One tick of every raft group, milliseconds.
pub const TICK_MS: u64 = 50;
/// Heartbeats leave every so many ticks: 150 ms.
pub const HEARTBEAT_TICKS: usize = 3;
/// A leader whose log did not move for so long, and whose followers have all of it, sends every
/// second heartbeat only: 300 ms, within its lease of [`LEASE_MS`].
pub const QUIET_AFTER_MS: u64 = 1_000;
/// Shortest election time-out in ticks: 1.5 s. Later ranks add [`ELECTION_RANK_TICKS`].
pub const ELECTION_TICKS: usize = 30;
/// Stagger of the election time-out by replica rank: 0.3 s.
pub const ELECTION_RANK_TICKS: usize = 6;
/// Jitter on top, exclusive: below the stagger, so ranks never overlap.
pub const ELECTION_JITTER_TICKS: usize = 4;
/// A lease runs this long from the quorum-th newest echoed heartbeat, milliseconds.
pub const LEASE_MS: u64 = 450;
/// A replica refuses votes this long after it answered a heartbeat, and after its start.
pub const VOTE_PROMISE_MS: u64 = 500;
/// Candidates with evidence, and preferred first replicas, campaign this often.
pub const CAMPAIGN_RETRY_MS: u64 = 100;
/// Terms in which a replica begins an election that nobody won again, before it waits for its
/// election time-out.
pub const CAMPAIGN_TERMS_MAX: u32 = 4;
/// `replica.lag.time.max.ms`.
pub const REPLICA_LAG_MS_MAX: u64 = 30_000;
/// A group whose core panicked is rebuilt at most once in this time, then quarantined.
pub const REBUILD_INTERVAL_MS: u64 = 600_000;

/// Records of one loop in the flight recorder: a power of two, 64 bytes each.
pub const FLIGHT_RECORDS: usize = 16_384;
/// Rings of the flight recorder in one process.
pub const FLIGHT_RINGS_MAX: usize = 64;
/// What is new in the rings is in a file after this time at the latest, milliseconds; a thread that
/// is awake anyway ...
pub const FLIGHT_MIRROR_MS: u64 = 8;
/// ... sees to it this long after the time before ...
pub const FLIGHT_LEND_MS: u64 = 5;
/// ... all of them in one file, of so many records; the rings' own files follow this often.
pub const FLIGHT_RECENT_RECORDS: usize = 16_384;
pub const FLIGHT_FULL_MS: u64 = 1_000;
/// Events that come by the thousand (appends, requests): so many of a loop are recorded in a
/// second, evenly ...
pub const FLIGHT_ORDINARY_MAX: u64 = 1_000;
/// ... but for a burst after some quiet ...
pub const FLIGHT_BURST_MAX: u64 = 500;
/// ... and of those beyond one in so many.
pub const FLIGHT_SAMPLE: u64 = 64;
/// A shard's turn from this length on has a record of its own, nanoseconds.
pub const FLIGHT_SLOW_TURN_NS: u64 = 2_000_000;
/// A wait for a lock, likewise.
pub const FLIGHT_SLOW_LOCK_NS: u64 = 1_000_000;
/// A request or disk operation that is recorded however many there are, nanoseconds.
pub const FLIGHT_SLOW_WORK_NS: u64 = 100_000_000;
/// Records that one panic's text may take.
pub const FLIGHT_TEXT_PARTS: usize = 8;
/// Dumps that are kept; the oldest goes first.
pub const FLIGHT_DUMPS_KEPT: usize = 8;
/// A dump waits this long for what follows its cause, milliseconds ...
pub const FLIGHT_DUMP_DELAY_MS: u64 = 1_000;
/// ... and comes at the earliest so long after the one before.
pub const FLIGHT_DUMP_GAP_MS: u64 = 5_000;
/// How long a broker that ends waits for its last events to reach the files, milliseconds.
pub const FLIGHT_SETTLE_MS: u64 = 200;
/// Bytes of a ring's file that `glasslog blackbox` reads.
pub const FLIGHT_FILE_BYTES_MAX: u64 = 16 << 20;
/// Rings that it reads at a time.
pub const FLIGHT_FILES_MAX: usize = 1_024;

/// Loops the watchdog can see at once.
pub const BEATS_MAX: usize = 128;
/// The watchdog looks this often, milliseconds.
pub const WATCHDOG_PERIOD_MS: u64 = 100;
/// Threads that wait for a lock and are seen doing so.
pub const LOCK_WAITERS_SEEN_MAX: usize = 64;
/// Stalls that are explained, and shown as series, at a time.
pub const STALLS_SHOWN_MAX: usize = 64;
/// Stalls that ended and are still shown at `/debug/stalls`.
pub const STALLS_KEPT_MAX: usize = 64;
/// Tenths of a second that a shard's loop remembers of itself.
pub const LOOP_HISTORY_BINS: usize = 100;
/// Post-mortems of elections that a broker keeps in memory.
pub const POSTMORTEMS_KEPT_MAX: usize = 512;
/// Post-mortems that wait to be written to their topic; the oldest go first.
pub const POSTMORTEMS_PENDING_MAX: usize = 2_048;
/// Bytes of one batch of them.
pub const POSTMORTEM_BATCH_BYTES: usize = 128 << 10;
/// Bytes that each of their topics keeps.
pub const POSTMORTEM_TOPIC_BYTES: u64 = 64 << 20;
/// Marks of what a shard did with which entries: a power of two, 48 bytes each.
pub const TRACE_MARKS: usize = 16_384;
/// Requests, questions of leaders and elections that wait to be made into spans.
pub const TRACE_QUEUE_MAX: usize = 1_024;
/// Entries whose way through the shards is looked up; more traces lack it.
pub const TRACE_PENDING_MAX: usize = 256;
/// An entry's way is looked up this often, milliseconds ...
pub const TRACE_LOOK_MS: u64 = 500;
/// ... and at most so many times.
pub const TRACE_LOOKS_MAX: u32 = 10;
/// Spans that wait for the collector.
pub const TRACE_SPANS_MAX: usize = 8_192;
/// Spans of one message to the collector.
pub const TRACE_BATCH_SPANS: usize = 512;
/// Slowest requests of the last minute that are kept, of each API.
pub const TRACE_SLOWEST_MAX: usize = 20;
/// Headers of a record that are looked at for its trace context.
pub const TRACE_HEADERS_MAX: usize = 32;
/// Requests whose stage is visible while they are in flight; more are served, but not seen.
pub const INFLIGHT_TRACKED_MAX: usize = 4_096;
/// Brokers with a label value of their own in metrics.
pub const PEER_LABELS_MAX: usize = 16;
/// Topics with a label value of their own in metrics ...
pub const TOPIC_LABELS_MAX: usize = 100;
/// ... and consumer groups, those with the most lag; the rest are one row, `__other__`.
pub const GROUP_LABELS_MAX: usize = 150;
/// Bytes of a client's name that becomes a label value; longer ones are of the rest.
pub const OPEN_LABEL_BYTES_MAX: usize = 255;
/// Traffic of topics and lag of groups are gathered this often, milliseconds.
pub const TENANTS_EVERY_MS: u64 = 2_000;
/// Committed offsets that a coordinator tells at a time ...
pub const COMMITTED_PAGE_MAX: usize = 1_000;
/// ... and how many of all groups that one broker coordinates lag is computed of; those beyond
/// are counted as unknown.
pub const LAG_OFFSETS_MAX: usize = 100_000;
/// Partitions that one broker asks another the ends of at a time.
pub const ENDS_ASKED_MAX: usize = 10_000;
/// How long one broker waits for another's answer to that, milliseconds.
pub const ENDS_MS_MAX: u64 = 1_000;
/// Partitions of one group, and groups, that `/debug/consumers` shows.
pub const CONSUMERS_SHOWN_MAX: usize = 1_000;
/// Series one broker exports, whatever its number of partitions.
pub const METRIC_SERIES_MAX: usize = 3_000;
/// Log lines of one kind per [`LOG_WINDOW_MS`]; more are counted, not written.
pub const LOG_BURST_MAX: u64 = 5;
/// Window of the log's rate limit, milliseconds.
pub const LOG_WINDOW_MS: u64 = 10_000;
/// Log lines that wait for a slow stderr before lines are dropped and counted.
pub const LOG_QUEUE_LINES_MAX: usize = 8_192;

/// Bytes of a configuration file.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Listeners of one broker.
pub const LISTENERS_MAX: usize = 16;
/// Names by which a broker's admin pages may be asked for.
pub const ADMIN_HOSTS_MAX: usize = 64;
/// Initial brokers of a cluster.
pub const INITIAL_BROKERS_MAX: usize = 99;
/// A broker asked to stop has gone after this long, drained or not, milliseconds
/// (`shutdown.timeout.ms`).
pub const SHUTDOWN_MS_MAX: u64 = 30_000;
/// Bytes of a shutdown manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;
/// Differences between a shutdown manifest and the recovered log that are told one by one.
pub const MANIFEST_DIFFERENCES_TOLD: usize = 200;
/// Part of the time to stop that handing leaderships over may take, milliseconds.
pub const HAND_OVER_MS_MAX: u64 = 5_000;
/// `glasslog dev`: broker processes it runs.
pub const DEV_BROKERS_MAX: u16 = 9;
/// `glasslog dev`: a broker that died is started again after this long, milliseconds.
pub const DEV_RESTART_MS: u64 = 2_000;
/// Brokers that one look at a cluster asks; those beyond are named and not asked.
pub const SURVEY_BROKERS_MAX: usize = 256;
/// On a broker's own page: groups in trouble, hottest partitions, elections.
pub const SURVEY_TROUBLED_MAX: usize = 100;
pub const SURVEY_HOTTEST_MAX: usize = 20;
pub const SURVEY_ELECTIONS_MAX: usize = 30;
/// `glasslog dev`: a broker is asked for its state this often, milliseconds.
pub const DEV_POLL_MS: u64 = 500;
/// `glasslog dev`: one answer of a broker's admin HTTP takes at most this long, milliseconds.
pub const DEV_POLL_MS_MAX: u64 = 1_000;
/// `glasslog dev`: bytes of one admin answer.
pub const DEV_ANSWER_BYTES_MAX: usize = 4 << 20;
/// `glasslog dev`: a broker that was told to stop is killed after this long, milliseconds.
pub const DEV_DRAIN_MS_MAX: u64 = SHUTDOWN_MS_MAX + 5_000;
/// `glasslog dev`: a broker's log file is set aside at start above this size.
pub const DEV_LOG_BYTES_MAX: u64 = 64 << 20;
/// `glasslog dev`: bytes at the end of a broker's log that are read for its last words.
pub const DEV_LOG_TAIL_BYTES: u64 = 16 << 10;
/// `glasslog dev`: events the screen keeps.
pub const DEV_EVENTS_KEPT: usize = 8;
/// The web console: people who watch one broker's at a time.
pub const CONSOLE_VIEWERS_MAX: usize = 16;
/// The web console: the cluster is asked this often while somebody watches, milliseconds.
pub const CONSOLE_EVERY_MS: u64 = 1_000;
/// The web console: who has taken nothing for this long may lose the seat, milliseconds.
pub const CONSOLE_IDLE_MS_MAX: u64 = 15_000;
/// A loop in one phase for this long is stalled, unless its phase has a bound of its own.
pub const STALL_MS: u64 = 1_000;
/// One disk operation of the journal beyond this costs a broker its leaderships ...
pub const DISK_BUDGET_MS: u64 = 3_000;
/// ... and beyond this its life.
pub const DISK_FENCE_MS: u64 = 20_000;
/// A broker that ends itself serves its metrics for this long.
pub const LAST_WORDS_MS: u64 = 10_000;
/// A turn's committed entries should be applied in this time.
pub const STALL_APPLY_MS: u64 = 250;
/// Phases that rightly take their time: housekeeping, connecting.
pub const STALL_MAINTAIN_MS: u64 = 10_000;
/// Recovery reads the whole journal.
pub const STALL_RECOVER_MS: u64 = 60_000;
/// A tick later than half a heartbeat is late.
pub const TICK_LATE_MS: u64 = 75;
/// `glasslog dev`: what its brokers' watchers may have to say at once.
pub const DEV_EVENTS_MAX: usize = 256;

/// Members of one consumer group; `group.max.size` may ask for fewer.
pub const GROUP_MEMBERS_MAX: usize = 4_096;
/// Groups of one partition of `__consumer_offsets`.
pub const GROUPS_PER_COORDINATOR_MAX: usize = 20_000;
/// Bytes of a group id, member id, instance id or protocol name.
pub const GROUP_TEXT_BYTES_MAX: usize = 4_096;
/// Bytes of all protocols' metadata that one member may bring.
pub const GROUP_MEMBER_BYTES_MAX: usize = 1 << 20;
/// How often offsets are looked through for those that nobody needs any more, milliseconds.
pub const OFFSETS_EXPIRE_EVERY_MS: u64 = 600_000;
/// Deleted topics whose names metadata remembers, for producers that live on over a re-created one.
pub const DELETED_TOPIC_NAMES_MAX: usize = 1_024;
/// How often offsets are looked through for those of deleted topics, while there may be some,
/// milliseconds.
pub const OFFSETS_SWEEP_EVERY_MS: u64 = 1_000;
/// Offsets forgotten at one time.
pub const OFFSETS_EXPIRED_AT_ONCE: usize = 1_000;
/// Bytes of one batch of tombstones; less if the log takes no such batch.
pub const TOMBSTONE_BATCH_BYTES: usize = 256 << 10;
/// Bytes of all tombstones of one removal; its asker comes again for the rest.
pub const TOMBSTONES_BYTES_AT_ONCE: usize = 8 << 20;
