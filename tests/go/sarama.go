package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	kafka "github.com/IBM/sarama"
)

// sarama. Its groups use its default, the range assignor, eagerly.
type sarama struct{}

var saramaCodecs = map[string]kafka.CompressionCodec{
	"none":   kafka.CompressionNone,
	"gzip":   kafka.CompressionGZIP,
	"snappy": kafka.CompressionSnappy,
	"lz4":    kafka.CompressionLZ4,
	"zstd":   kafka.CompressionZSTD,
}

func saramaConfig() *kafka.Config {
	config := kafka.NewConfig()
	config.Version = kafka.V2_8_0_0
	config.Metadata.Retry.Max = 60
	config.Metadata.Retry.Backoff = 100 * time.Millisecond
	return config
}

func (sarama) produce(bootstrap []string, topic, name string, parts []share, pace pace) error {
	var failures []error
	for _, part := range parts {
		config := saramaConfig()
		config.Producer.RequiredAcks = kafka.WaitForAll
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1 // what its idempotence asks for
		config.Net.ReadTimeout = 10 * time.Second
		config.Producer.Return.Successes = true
		config.Producer.Retry.Max = 600
		config.Producer.Retry.Backoff = 100 * time.Millisecond
		config.Producer.Flush.Frequency = 5 * time.Millisecond
		config.Producer.Compression = saramaCodecs[part.codec]
		producer, err := kafka.NewAsyncProducer(bootstrap, config)
		if err != nil {
			return err
		}
		// A close in the middle of its retries fails records that it had taken: each is reported
		// first.
		var reports, sent sync.WaitGroup
		sent.Add(int(part.to - part.from))
		reports.Go(func() {
			for done := range producer.Successes() {
				printf("%d\t%d\t%d\n", done.Partition, done.Offset, done.Metadata)
				sent.Done()
			}
		})
		reports.Go(func() {
			for failed := range producer.Errors() {
				failures = append(failures, failed)
				sent.Done()
			}
		})
		for number := part.from; number < part.to; number++ {
			pace.wait(number)
			producer.Input() <- &kafka.ProducerMessage{
				Topic:    topic,
				Key:      kafka.StringEncoder(key(name, number)),
				Value:    kafka.StringEncoder(value(name, number)),
				Metadata: number,
			}
		}
		sent.Wait()
		producer.AsyncClose()
		reports.Wait()
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d records failed, the first with: %w", len(failures), failures[0])
	}
	return nil
}

func (sarama) consume(bootstrap []string, topic string) error {
	client, err := kafka.NewClient(bootstrap, saramaConfig())
	if err != nil {
		return err
	}
	defer client.Close()
	consumer, err := kafka.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	defer consumer.Close()
	partitions, err := client.Partitions(topic)
	if err != nil {
		return err
	}
	for _, partition := range partitions {
		end, err := client.GetOffset(topic, partition, kafka.OffsetNewest)
		if err != nil {
			return err
		}
		if err := readPartition(consumer, topic, partition, end); err != nil {
			return err
		}
	}
	return nil
}

func readPartition(consumer kafka.Consumer, topic string, partition int32, end int64) error {
	if end == 0 {
		return nil
	}
	reader, err := consumer.ConsumePartition(topic, partition, kafka.OffsetOldest)
	if err != nil {
		return err
	}
	defer reader.Close()
	for {
		select {
		case r := <-reader.Messages():
			record(r.Partition, r.Offset, r.Key, r.Value)
			if r.Offset+1 >= end {
				return nil
			}
		case <-time.After(quiet):
			return fmt.Errorf("no record for 60 s; partition %d is to be read up to %d", partition, end)
		}
	}
}

// One member. sarama reads each partition in a goroutine of its own and commits what was marked;
// ends of the session wait for the readers, then the last marks are committed.
type saramaMember struct {
	topic string
}

func (m *saramaMember) Setup(s kafka.ConsumerGroupSession) error {
	event("assigned", numbers(s.Claims()[m.topic]))
	return nil
}

func (m *saramaMember) Cleanup(s kafka.ConsumerGroupSession) error {
	s.Commit()
	event("revoked", numbers(s.Claims()[m.topic]))
	return nil
}

func (m *saramaMember) ConsumeClaim(s kafka.ConsumerGroupSession, claim kafka.ConsumerGroupClaim) error {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	dirty := false
	for {
		select {
		case r, open := <-claim.Messages():
			if !open {
				return nil
			}
			record(r.Partition, r.Offset, r.Key, r.Value)
			s.MarkMessage(r, "")
			dirty = true
		case <-tick.C:
			if dirty {
				s.Commit()
				dirty = false
				flush()
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (sarama) group(ctx context.Context, bootstrap []string, topic, group, member string) error {
	config := saramaConfig()
	config.ClientID = member
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.Initial = kafka.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Session.Timeout = session
	config.Consumer.Group.Heartbeat.Interval = time.Second
	consumer, err := kafka.NewConsumerGroup(bootstrap, group, config)
	if err != nil {
		return err
	}
	go func() {
		for err := range consumer.Errors() {
			event("note", err.Error())
		}
	}()
	self := &saramaMember{topic}
	for ctx.Err() == nil {
		// It returns at every rebalance, and with an error when its own retries are used up; its
		// documentation asks for a loop.
		if err := consumer.Consume(ctx, []string{topic}, self); err != nil {
			if errors.Is(err, kafka.ErrClosedConsumerGroup) {
				return err
			}
			event("note", err.Error())
			time.Sleep(100 * time.Millisecond)
		}
	}
	if err := consumer.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return nil
}

func flush() {
	printing.Lock()
	defer printing.Unlock()
	lines.Flush()
}
