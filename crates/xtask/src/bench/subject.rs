//! What is compared: two sync policies of Glasslog and two of Apache Kafka, each three brokers.

use crate::cluster::{Brand, Cluster};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Every record synced before its acknowledgement, as shipped.
    GlasslogGroup,
    /// Synced once a second.
    GlasslogInterval,
    /// As shipped: the operating system syncs when it likes.
    Kafka,
    /// A sync per append, the nearest that Kafka has to our default.
    KafkaFlush,
}

impl Subject {
    pub const ALL: [Subject; 4] =
        [Subject::GlasslogGroup, Subject::GlasslogInterval, Subject::Kafka, Subject::KafkaFlush];

    pub fn as_str(self) -> &'static str {
        match self {
            Subject::GlasslogGroup => "glasslog",
            Subject::GlasslogInterval => "glasslog-interval",
            Subject::Kafka => "kafka",
            Subject::KafkaFlush => "kafka-flush",
        }
    }

    /// The column's head, with the sync policy.
    pub fn title(self) -> &'static str {
        match self {
            Subject::GlasslogGroup => "Glasslog, fsync before ack",
            Subject::GlasslogInterval => "Glasslog, `journal.sync = interval`",
            Subject::Kafka => "Apache Kafka 4.3.1",
            Subject::KafkaFlush => "the same, `log.flush.interval.messages=1`",
        }
    }

    pub fn is_kafka(self) -> bool {
        matches!(self, Subject::Kafka | Subject::KafkaFlush)
    }

    /// Folder, configuration and ports, not running yet.
    pub fn prepare(self) -> Result<Cluster, String> {
        let (brand, extra): (Brand, &[&str]) = match self {
            Subject::GlasslogGroup => (Brand::Glasslog, &[]),
            Subject::GlasslogInterval => (Brand::Glasslog, &["journal.sync = \"interval\""]),
            Subject::Kafka => (Brand::ApacheKafka, &[]),
            Subject::KafkaFlush => (Brand::ApacheKafka, &["log.flush.interval.messages=1"]),
        };
        Cluster::prepare(&format!("bench-{}", self.as_str()), brand, extra)
    }
}
