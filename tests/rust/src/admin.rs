//! librdkafka's administrator, as far as rust-rdkafka has calls for it, through the steps that all
//! clients take; one line for each.

use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataPartition;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const CALL: Duration = Duration::from_secs(20);
/// Other brokers learn of an administrator's change a moment later.
const SETTLE: Duration = Duration::from_secs(20);

type Outcome = Result<(), String>;

struct Story {
    admin: AdminClient<DefaultClientContext>,
    /// Metadata, group lists and watermarks belong to a consumer here.
    reader: BaseConsumer,
    runtime: tokio::runtime::Runtime,
    bootstrap: String,
    topic: String,
    group: String,
}

/// Prints a line for each step, also for those that this client has no call for.
pub fn story(bootstrap: &str, prefix: &str, group: &str) -> Outcome {
    let config = || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", group);
        config
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let story = Story {
        admin: config().create().map_err(|error| error.to_string())?,
        reader: config().create().map_err(|error| error.to_string())?,
        runtime: runtime.map_err(|error| error.to_string())?,
        bootstrap: bootstrap.to_owned(),
        topic: format!("{prefix}-topic"),
        group: group.to_owned(),
    };
    say("create-topic", story.create());
    say("list-topics", story.listed(true));
    say("describe-topic", story.described(2));
    say("describe-configs", story.config("7200000"));
    say("alter-configs", story.alter());
    say("create-partitions", story.grow());
    say("delete-records", story.delete_records());
    say("describe-cluster", story.brokers());
    say("list-groups", story.group_listed(true));
    say("describe-group", story.group_empty());
    say("group-offsets", story.offsets());
    say("delete-group", story.delete_group());
    say("delete-topic", story.delete());
    Ok(())
}

fn say(name: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => println!("{name}\tok"),
        Err(error) => {
            let words: Vec<&str> = error.split_whitespace().collect();
            println!("{name}\tERROR {}", words.join(" "));
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL))
}

/// The one answer to a request about one thing.
fn one<T, E: std::fmt::Debug>(
    answer: Result<Vec<Result<T, E>>, rdkafka::error::KafkaError>,
) -> Result<T, String> {
    let mut answers = answer.map_err(|error| error.to_string())?;
    let last = answers.pop().ok_or("no answer")?;
    last.map_err(|error| format!("{error:?}"))
}

impl Story {
    fn create(&self) -> Outcome {
        let wanted = NewTopic::new(&self.topic, 2, TopicReplication::Fixed(3));
        let wanted = [wanted.set("retention.ms", "7200000")];
        one(self.runtime.block_on(self.admin.create_topics(&wanted, &options()))).map(drop)
    }

    fn topics(&self) -> Result<Vec<String>, String> {
        let found = self.reader.fetch_metadata(None, CALL).map_err(|error| error.to_string())?;
        Ok(found.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    fn listed(&self, wanted: bool) -> Outcome {
        eventually(|| Ok(self.topics()?.contains(&self.topic) == wanted))
    }

    fn described(&self, count: usize) -> Outcome {
        let whole = |p: &MetadataPartition| p.replicas().len() == 3 && p.leader() >= 0;
        eventually(|| {
            let found = self.reader.fetch_metadata(Some(&self.topic), CALL);
            let found = found.map_err(|error| error.to_string())?;
            let partitions = found.topics().first().ok_or("no topic")?.partitions();
            Ok(partitions.len() == count && partitions.iter().all(whole))
        })
    }

    fn config(&self, value: &str) -> Outcome {
        let resource = [ResourceSpecifier::Topic(&self.topic)];
        eventually(|| {
            let found = self.admin.describe_configs(&resource, &options());
            let found = one(self.runtime.block_on(found))?;
            let entry = found.get("retention.ms").ok_or("no retention.ms")?;
            Ok(entry.value.as_deref() == Some(value))
        })
    }

    fn alter(&self) -> Outcome {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&self.topic));
        let change = [change.set("retention.ms", "3600000")];
        let changed = self.runtime.block_on(self.admin.alter_configs(&change, &options()));
        one(changed)?;
        self.config("3600000")
    }

    fn grow(&self) -> Outcome {
        let wanted = [NewPartitions::new(&self.topic, 4)];
        one(self.runtime.block_on(self.admin.create_partitions(&wanted, &options())))?;
        self.described(4)
    }

    fn delete_records(&self) -> Outcome {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()
            .map_err(|error| error.to_string())?;
        for _ in 0..5 {
            let record = BaseRecord::<str, str>::to(&self.topic).partition(0).payload("glass");
            producer.send(record).map_err(|(error, _)| error.to_string())?;
        }
        producer.flush(CALL).map_err(|error| error.to_string())?;
        let mut before = TopicPartitionList::new();
        before
            .add_partition_offset(&self.topic, 0, Offset::Offset(3))
            .map_err(|error| error.to_string())?;
        let deleted = self.runtime.block_on(self.admin.delete_records(&before, &options()));
        for found in deleted.map_err(|error| error.to_string())?.elements() {
            found.error().map_err(|error| error.to_string())?;
        }
        eventually(|| {
            let marks = self.reader.fetch_watermarks(&self.topic, 0, CALL);
            Ok(marks.map_err(|error| error.to_string())?.0 == 3)
        })
    }

    fn brokers(&self) -> Outcome {
        eventually(|| {
            let found = self.reader.fetch_metadata(None, CALL);
            Ok(found.map_err(|error| error.to_string())?.brokers().len() == 3)
        })
    }

    fn group_listed(&self, wanted: bool) -> Outcome {
        eventually(|| {
            let found = self.reader.fetch_group_list(None, CALL);
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.groups().iter().any(|group| group.name() == self.group) == wanted)
        })
    }

    fn group_empty(&self) -> Outcome {
        let found = self.reader.fetch_group_list(Some(&self.group), CALL);
        let found = found.map_err(|error| error.to_string())?;
        match found.groups().iter().find(|group| group.name() == self.group) {
            Some(group) if group.state() == "Empty" => Ok(()),
            Some(group) => Err(format!("it is {}", group.state())),
            None => Err("not described".to_owned()),
        }
    }

    /// The offsets of the group's topic, whose name is the group's.
    fn offsets(&self) -> Outcome {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.group, 0);
        let found = self.reader.committed_offsets(asked, CALL);
        let found = found.map_err(|error| error.to_string())?;
        match found
            .elements()
            .first()
            .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
        {
            Some(Offset::Offset(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }

    fn delete_group(&self) -> Outcome {
        let names = [self.group.as_str()];
        one(self.runtime.block_on(self.admin.delete_groups(&names, &options())))?;
        self.group_listed(false)
    }

    fn delete(&self) -> Outcome {
        let names = [self.topic.as_str()];
        one(self.runtime.block_on(self.admin.delete_topics(&names, &options())))?;
        self.listed(false)
    }
}

/// Waits until it holds; a topic that another broker does not know yet is no answer.
fn eventually(check: impl Fn() -> Result<bool, String>) -> Outcome {
    let start = Instant::now();
    loop {
        let found = check();
        if found == Ok(true) {
            return Ok(());
        }
        if start.elapsed() > SETTLE {
            return Err(format!("after 20 s: {found:?}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
