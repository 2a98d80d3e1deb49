package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// franz-go. Its groups use its default, the cooperative assignor.
type franz struct{}

var franzCodecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func (franz) produce(bootstrap []string, topic, name string, parts []share, pace pace) error {
	var lock sync.Mutex
	var failures []error
	for _, part := range parts {
		producer, err := kgo.NewClient(
			kgo.SeedBrokers(bootstrap...),
			kgo.DefaultProduceTopic(topic),
			kgo.ProducerBatchCompression(franzCodecs[part.codec]),
			kgo.ProducerLinger(5*time.Millisecond),
			kgo.RecordDeliveryTimeout(delivery),
			kgo.ProduceRequestTimeout(10*time.Second),
			kgo.AllowAutoTopicCreation(),
		)
		if err != nil {
			return err
		}
		for number := part.from; number < part.to; number++ {
			pace.wait(number)
			sent := kgo.KeyStringRecord(key(name, number), value(name, number))
			producer.Produce(context.Background(), sent, func(r *kgo.Record, err error) {
				if err != nil {
					lock.Lock()
					defer lock.Unlock()
					failures = append(failures, err)
					return
				}
				printf("%d\t%d\t%d\n", r.Partition, r.Offset, number)
			})
		}
		if err := producer.Flush(context.Background()); err != nil {
			return err
		}
		producer.Close()
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d records failed, the first with: %w", len(failures), failures[0])
	}
	return nil
}

func (franz) consume(bootstrap []string, topic string) error {
	consumer, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap...),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer consumer.Close()
	listed, err := kadm.NewClient(consumer).ListEndOffsets(context.Background(), topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return err
	}
	ends := map[int32]int64{}
	listed.Each(func(end kadm.ListedOffset) {
		if end.Offset > 0 {
			ends[end.Partition] = end.Offset
		}
	})
	for len(ends) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), quiet)
		fetches := consumer.PollFetches(ctx)
		cancel()
		if errors.Is(fetches.Err0(), context.DeadlineExceeded) {
			return fmt.Errorf("no record for 60 s; still to read: %v", ends)
		}
		fetches.EachError(func(_ string, partition int32, err error) {
			fmt.Fprintln(os.Stderr, "partition", partition, err)
		})
		fetches.EachRecord(func(r *kgo.Record) {
			record(r.Partition, r.Offset, r.Key, r.Value)
			if end, ok := ends[r.Partition]; ok && r.Offset+1 >= end {
				delete(ends, r.Partition)
			}
		})
	}
	return nil
}

// What a member printed and did not commit yet. Polling and rebalancing exclude each other
// (BlockRebalanceOnPoll), so it needs no lock.
type franzMember struct {
	topic   string
	printed map[int32]kgo.EpochOffset
}

func (m *franzMember) commit(ctx context.Context, consumer *kgo.Client) {
	if len(m.printed) == 0 {
		return
	}
	var failed error
	taken := map[string]map[int32]kgo.EpochOffset{m.topic: m.printed}
	consumer.CommitOffsetsSync(ctx, taken, func(_ *kgo.Client, _ *kmsgRequest, r *kmsgResponse, err error) {
		failed = err
		if err != nil {
			return
		}
		for _, topic := range r.Topics {
			for _, partition := range topic.Partitions {
				failed = errors.Join(failed, kerr.ErrorForCode(partition.ErrorCode))
			}
		}
	})
	if failed != nil {
		// Tried again with the next commit, unless the partitions are gone by then.
		event("note", "commit: "+failed.Error())
		return
	}
	next := map[int32]int64{}
	for partition, at := range m.printed {
		next[partition] = at.Offset
	}
	event("committed", offsets(next))
	m.printed = map[int32]kgo.EpochOffset{}
}

func (m *franzMember) forget(partitions []int32) {
	for _, partition := range partitions {
		delete(m.printed, partition)
	}
}

func (franz) group(ctx context.Context, bootstrap []string, topic, group, member string) error {
	self := &franzMember{topic, map[int32]kgo.EpochOffset{}}
	consumer, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap...),
		kgo.ClientID(member),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(session),
		kgo.HeartbeatInterval(time.Second),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
			event("assigned", numbers(given[topic]))
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, c *kgo.Client, taken map[string][]int32) {
			self.commit(ctx, c)
			self.forget(taken[topic])
			event("revoked", numbers(taken[topic]))
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			self.forget(lost[topic])
			event("lost", numbers(lost[topic]))
		}),
	)
	if err != nil {
		return err
	}
	defer consumer.Close()
	committed := time.Now()
	for ctx.Err() == nil {
		turn, cancel := context.WithTimeout(ctx, commitEvery)
		fetches := consumer.PollRecords(turn, 500)
		cancel()
		fetches.EachError(func(_ string, partition int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				event("note", fmt.Sprintf("partition %d: %v", partition, err))
			}
		})
		fetches.EachRecord(func(r *kgo.Record) {
			record(r.Partition, r.Offset, r.Key, r.Value)
			self.printed[r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
		})
		if time.Since(committed) > commitEvery {
			self.commit(context.Background(), consumer)
			committed = time.Now()
		}
		consumer.AllowRebalance()
	}
	self.commit(context.Background(), consumer)
	return nil
}
