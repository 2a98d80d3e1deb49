//! A few old Kafka requests, written by hand: enough to create a topic, to see who leads what,
//! where each partition ends and how far a group has come. Independent of the broker's codec on purpose.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);
const RESPONSE_BYTES_MAX: usize = 16 << 20;
const PRODUCE: i16 = 0;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const CREATE_TOPICS: i16 = 19;
const LATEST: i64 = -1;

/// One partition as Metadata tells it; `leader` is -1 without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    pub error: i16,
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

/// A connection to one broker.
pub struct Kafka(TcpStream);

impl Kafka {
    pub fn connect(at: SocketAddr) -> Result<Kafka> {
        let stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(Kafka(stream))
    }

    /// Metadata v1 of no topic: how many brokers this one knows.
    pub fn brokers(&mut self) -> Result<usize> {
        let mut body = Writer::default();
        body.i32(0);
        let response = self.call(METADATA, 1, &body.0)?;
        let count = Reader(&response).i32()?;
        usize::try_from(count).map_err(|_| Error::other(format!("{count} brokers")))
    }

    /// Metadata v1 of one topic, sorted by partition.
    pub fn partitions(&mut self, topic: &str) -> Result<Vec<Partition>> {
        let mut body = Writer::default();
        body.i32(1);
        body.string(topic);
        let response = self.call(METADATA, 1, &body.0)?;
        let mut r = Reader(&response);
        for _ in 0..r.i32()? {
            let _broker = (r.i32()?, r.string()?, r.i32()?, r.string()?);
        }
        let _controller = r.i32()?;
        let mut found = Vec::new();
        for _ in 0..r.i32()? {
            let error = r.i16()?;
            let (_name, _internal) = (r.string()?, r.skip(1)?);
            if error != 0 {
                return Err(Error::other(format!("Metadata of {topic}: error {error}")));
            }
            for _ in 0..r.i32()? {
                let (error, index, leader) = (r.i16()?, r.i32()?, r.i32()?);
                let (replicas, isr) = (r.i32s()?, r.i32s()?);
                found.push(Partition { index, error, leader, replicas, isr });
            }
        }
        found.sort_by_key(|partition| partition.index);
        Ok(found)
    }

    /// CreateTopics v2; the answer is Kafka's error code.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, copies: i16) -> Result<i16> {
        let mut body = Writer::default();
        body.i32(1);
        body.string(topic);
        body.i32(partitions);
        body.i16(copies);
        body.i32(0); // assignments
        body.i32(0); // configs
        body.i32(10_000); // time-out, milliseconds
        body.0.push(0); // validate only
        let response = self.call(CREATE_TOPICS, 2, &body.0)?;
        let mut r = Reader(&response);
        let (_throttle, _topics, _name) = (r.i32()?, r.i32()?, r.string()?);
        r.i16()
    }

    /// Produce v3 of one record without a key, acks=all; the error code.
    pub fn produce(&mut self, topic: &str, partition: i32, value: &[u8]) -> Result<i16> {
        self.produce_stamped(topic, partition, value).map(|(error, _)| error)
    }

    /// The same, and the time of the append in milliseconds, where the topic's records have it.
    pub fn produce_stamped(
        &mut self,
        topic: &str,
        partition: i32,
        value: &[u8],
    ) -> Result<(i16, i64)> {
        let batch = batch_of(value);
        let mut body = Writer::default();
        body.i16(-1); // no transaction
        body.i16(-1); // acks=all
        body.i32(10_000); // time-out, milliseconds
        body.i32(1);
        body.string(topic);
        body.i32(1);
        body.i32(partition);
        body.i32(i32::try_from(batch.len()).expect("a small batch"));
        body.0.extend_from_slice(&batch);
        let response = self.call(PRODUCE, 3, &body.0)?;
        let mut r = Reader(&response);
        let (_topics, _name) = (r.i32()?, r.string()?);
        let (_partitions, _index) = (r.i32()?, r.i32()?);
        let (error, _base, stamp_ms) = (r.i16()?, r.i64()?, r.i64()?);
        Ok((error, stamp_ms))
    }

    /// ListOffsets v1, latest: the high watermark, asked of the partition's leader.
    pub fn high_watermark(&mut self, topic: &str, partition: i32) -> Result<i64> {
        let mut body = Writer::default();
        body.i32(-1);
        body.i32(1);
        body.string(topic);
        body.i32(1);
        body.i32(partition);
        body.i64(LATEST);
        let response = self.call(LIST_OFFSETS, 1, &body.0)?;
        let mut r = Reader(&response);
        let (_topics, _name) = (r.i32()?, r.string()?);
        let (_partitions, _index) = (r.i32()?, r.i32()?);
        let error = r.i16()?;
        let (_timestamp, offset) = (r.i64()?, r.i64()?);
        if error != 0 {
            return Err(Error::other(format!("ListOffsets: error {error}")));
        }
        Ok(offset)
    }

    /// FindCoordinator v0: the broker that coordinates a group.
    pub fn coordinator(&mut self, group: &str) -> Result<i32> {
        let mut body = Writer::default();
        body.string(group);
        let response = self.call(FIND_COORDINATOR, 0, &body.0)?;
        let mut r = Reader(&response);
        let (error, broker) = (r.i16()?, r.i32()?);
        if error != 0 {
            return Err(Error::other(format!("FindCoordinator: error {error}")));
        }
        Ok(broker)
    }

    /// OffsetFetch v1, asked of the group's coordinator: the committed offset of partitions
    /// 0..`count`, -1 where nothing was committed.
    pub fn committed(&mut self, group: &str, topic: &str, count: i32) -> Result<Vec<i64>> {
        let mut body = Writer::default();
        body.string(group);
        body.i32(1);
        body.string(topic);
        body.i32(count);
        for partition in 0..count {
            body.i32(partition);
        }
        let response = self.call(OFFSET_FETCH, 1, &body.0)?;
        let mut r = Reader(&response);
        let (_topics, _name) = (r.i32()?, r.string()?);
        let mut found = BTreeMap::new();
        for _ in 0..r.i32()? {
            let (partition, offset) = (r.i32()?, r.i64()?);
            let (_metadata, error) = (r.string()?, r.i16()?);
            if error != 0 {
                return Err(Error::other(format!("OffsetFetch of {partition}: error {error}")));
            }
            found.insert(partition, offset);
        }
        Ok(found.into_values().collect())
    }

    /// Sends one request with a version 1 header; the answer's body.
    fn call(&mut self, api: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
        let mut request = Writer::default();
        request.i16(api);
        request.i16(version);
        request.i32(1); // correlation id
        request.string("xtask");
        request.0.extend_from_slice(body);
        let length = u32::try_from(request.0.len()).expect("a small request");
        self.0.write_all(&length.to_be_bytes())?;
        self.0.write_all(&request.0)?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if !(4..=RESPONSE_BYTES_MAX).contains(&length) {
            return Err(Error::new(ErrorKind::InvalidData, format!("length {length}")));
        }
        let mut response = vec![0; length];
        self.0.read_exact(&mut response)?;
        Ok(response.split_off(4))
    }
}

/// A record batch (magic 2) of one record.
fn batch_of(value: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1]; // attributes, both deltas, no key (-1)
    varint(&mut record, value.len());
    record.extend_from_slice(value);
    record.push(0); // headers
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| now.as_millis() as i64);
    let mut covered = Writer::default();
    covered.i16(0); // attributes
    covered.i32(0); // last offset delta
    covered.i64(now_ms);
    covered.i64(now_ms);
    covered.i64(-1); // no producer
    covered.i16(-1);
    covered.i32(-1);
    covered.i32(1); // records
    varint(&mut covered.0, record.len());
    covered.0.extend_from_slice(&record);
    let mut batch = Writer::default();
    batch.i64(0); // base offset
    batch.i32(i32::try_from(covered.0.len() + 9).expect("a small batch"));
    batch.i32(-1); // leader epoch
    batch.0.push(2);
    batch.0.extend_from_slice(&crc32c(&covered.0).to_be_bytes());
    batch.0.extend_from_slice(&covered.0);
    batch.0
}

/// A length as a zigzag varint.
pub fn varint(out: &mut Vec<u8>, length: usize) {
    let mut rest = length << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let shift = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        (0..8).fold(crc ^ u32::from(*byte), shift)
    };
    !bytes.iter().fold(!0, step)
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn i16(&mut self, value: i16) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn string(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).expect("a short name"));
        self.0.extend_from_slice(text.as_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn skip(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "a short response"))?;
        self.0 = rest;
        Ok(head)
    }

    fn i16(&mut self) -> Result<i16> {
        let bytes = self.skip(2)?.try_into().expect("two bytes");
        Ok(i16::from_be_bytes(bytes))
    }

    fn i32(&mut self) -> Result<i32> {
        let bytes = self.skip(4)?.try_into().expect("four bytes");
        Ok(i32::from_be_bytes(bytes))
    }

    fn i64(&mut self) -> Result<i64> {
        let bytes = self.skip(8)?.try_into().expect("eight bytes");
        Ok(i64::from_be_bytes(bytes))
    }

    fn i32s(&mut self) -> Result<Vec<i32>> {
        (0..self.i32()?).map(|_| self.i32()).collect()
    }

    /// A string, or nothing where the protocol says null.
    fn string(&mut self) -> Result<&'a [u8]> {
        match usize::try_from(self.i16()?) {
            Ok(length) => self.skip(length),
            Err(_) => Ok(&[]),
        }
    }
}
