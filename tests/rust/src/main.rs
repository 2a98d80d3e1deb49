//! The rust-rdkafka client of the cluster tests; `tests/README.md` states the contract that all
//! clients share. It shares no code with the broker, so that a mistake in our own codec cannot
//! cancel itself out.
//!
//! ```text
//! produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE     "partition offset sequence" per ack
//! consume BOOTSTRAP TOPIC                              "partition offset key client sequence"
//! group   BOOTSTRAP TOPIC GROUP MEMBER                 a member, see `group.rs`
//! admin   BOOTSTRAP PREFIX GROUP                       "feature outcome"; GROUP's topic is GROUP
//! version
//! load    BOOTSTRAP TOPIC RECORD_BYTES RATE SECONDS    "acked N failed N"
//! probe   BOOTSTRAP TOPIC PARTITIONS SECONDS WHO       "partition sent_us acked_us" per ack;
//!                                                      WHO is `attentive` or `stock`
//! flood   BOOTSTRAP TOPIC BYTES RECORDS RATE BATCH     "records seconds p50 p99 p99.9 max", in us;
//!                                                      RATE 0: as fast as it goes; BATCH bytes,
//!                                                      0: stock, 1: one record per request
//! slots   as flood                                     by moments of 50 ms: "ms acked us us us ...",
//!                                                      at a rate with each one's time
//! drain   BOOTSTRAP TOPIC                              "records bytes seconds"
//! history-produce BOOTSTRAP TOPIC CLIENT PARTITIONS RATE   until standard input ends:
//!                                     "ack partition offset sequence sent_us acked_us",
//!                                     "fail partition sequence certain|unsure why"
//! history-poll    BOOTSTRAP TOPIC     "partition offset value", likewise
//! ```

mod admin;
mod consume;
mod flood;
mod group;
mod history;
mod produce;

use std::process::ExitCode;

/// Records that fail are final after this long; every test expects none.
const DELIVERY_MS: &str = "120000";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        ["produce", bootstrap, topic, client, count, codecs, rate] => {
            number(count).and_then(|count| Ok((count, number(rate)?))).and_then(|(count, rate)| {
                produce::sequence(bootstrap, topic, client, count, codecs, rate)
            })
        }
        ["consume", bootstrap, topic] => consume::all(bootstrap, topic),
        ["group", bootstrap, topic, group, member] => {
            group::member(bootstrap, topic, group, member)
        }
        ["admin", bootstrap, prefix, group] => admin::story(bootstrap, prefix, group),
        ["version"] => {
            println!("rust-rdkafka (librdkafka {})", rdkafka::util::get_rdkafka_version().1);
            Ok(())
        }
        ["load", bootstrap, topic, bytes, rate, seconds] => {
            number(bytes).and_then(|bytes| Ok((bytes, number(rate)?, number(seconds)?))).and_then(
                |(bytes, rate, seconds)| produce::load(bootstrap, topic, bytes, rate, seconds),
            )
        }
        ["probe", bootstrap, topic, partitions, seconds, who @ ("attentive" | "stock")] => {
            number(partitions).and_then(|partitions| Ok((partitions, number(seconds)?))).and_then(
                |(partitions, seconds)| {
                    produce::probe(bootstrap, topic, partitions, seconds, who == "attentive")
                },
            )
        }
        [how @ ("flood" | "slots"), bootstrap, topic, bytes, records, rate, batch] => {
            let numbers = [bytes, records, rate, batch].map(number);
            numbers.into_iter().collect::<Result<Vec<_>, _>>().and_then(|n| {
                let (bytes, records, rate, batch_bytes) = (n[0], n[1], n[2], n[3]);
                let by_slot = how == "slots";
                let flood = flood::Flood { bytes, records, rate, batch_bytes, by_slot };
                flood::produce(bootstrap, topic, &flood)
            })
        }
        ["drain", bootstrap, topic] => flood::drain(bootstrap, topic),
        ["history-produce", bootstrap, topic, client, partitions, rate] => {
            number(partitions).and_then(|partitions| Ok((partitions, number(rate)?))).and_then(
                |(partitions, rate)| history::produce(bootstrap, topic, client, partitions, rate),
            )
        }
        ["history-poll", bootstrap, topic] => history::poll(bootstrap, topic),
        _ => Err("usage: produce | consume | load | probe | flood | slots | drain | history-..., \
                 see src/main.rs"
            .to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}
