package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type (
	kmsgRequest  = kmsg.OffsetCommitRequest
	kmsgResponse = kmsg.OffsetCommitResponse
)

func (franz) admin(bootstrap []string, topic, group string) (steps, func(), error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MetadataMinAge(100e6), // a topic that was just made is looked for again soon
	)
	if err != nil {
		return steps{}, nil, err
	}
	admin := kadm.NewClient(client)
	ctx := context.Background()
	s := steps{topic: topic, group: group}
	s.create = func() error {
		hours := "7200000"
		made, err := admin.CreateTopic(ctx, 2, 3, map[string]*string{"retention.ms": &hours}, topic)
		if err == nil {
			err = made.Err
		}
		return err
	}
	s.topics = func() (map[string]bool, error) {
		found, err := admin.ListTopics(ctx)
		return set(found.Names()), err
	}
	s.partitions = func() (int, error) {
		found, err := admin.ListTopics(ctx, topic)
		if err != nil {
			return 0, err
		}
		partitions := found[topic].Partitions
		for _, partition := range partitions {
			if len(partition.Replicas) != 3 || partition.Leader < 0 {
				return -1, nil
			}
		}
		return len(partitions), nil
	}
	s.config = func(name string) (string, error) {
		found, err := admin.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return "", err
		}
		resource, err := found.On(topic, nil)
		if err == nil {
			err = resource.Err
		}
		for _, config := range resource.Configs {
			if config.Key == name {
				return config.MaybeValue(), err
			}
		}
		return "", err
	}
	s.alter = func(name, value string) error {
		change := kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value}
		done, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
		if err != nil {
			return err
		}
		_, err = done.On(topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
		return err
	}
	s.grow = func(partitions int) error {
		done, err := admin.UpdatePartitions(ctx, partitions, topic)
		if err == nil {
			err = done.Error()
		}
		return err
	}
	s.fill = func(records int) error {
		for range records {
			record := &kgo.Record{Topic: topic, Partition: 0, Value: []byte("glass")}
			if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
				return err
			}
		}
		return nil
	}
	s.deleteRecords = func(before int64) error {
		upTo := kadm.Offsets{}
		upTo.AddOffset(topic, 0, before, -1)
		done, err := admin.DeleteRecords(ctx, upTo)
		if err == nil {
			err = done.Error()
		}
		return err
	}
	s.start = func() (int64, error) {
		found, err := admin.ListStartOffsets(ctx, topic)
		if err != nil {
			return 0, err
		}
		at, ok := found.Lookup(topic, 0)
		if !ok {
			return 0, fmt.Errorf("not told")
		}
		return at.Offset, at.Err
	}
	s.brokers = func() (int, error) {
		found, err := admin.ListBrokers(ctx)
		return len(found), err
	}
	s.groups = func() (map[string]bool, error) {
		found, err := admin.ListGroups(ctx)
		return set(found.Groups()), err
	}
	s.groupState = func() (string, error) {
		found, err := admin.DescribeGroups(ctx, group)
		if err == nil {
			err = found.Error()
		}
		return found[group].State, err
	}
	s.groupOffsets = func() (int, error) {
		found, err := admin.FetchOffsets(ctx, group)
		if err == nil {
			err = found.Error()
		}
		return len(found[topicOf(found)]), err
	}
	s.deleteGroup = func() error {
		done, err := admin.DeleteGroup(ctx, group)
		if err == nil {
			err = done.Err
		}
		return err
	}
	s.delete = func() error {
		done, err := admin.DeleteTopic(ctx, topic)
		if err == nil {
			err = done.Err
		}
		return err
	}
	return s, client.Close, nil
}

// The only topic of an answer.
func topicOf(found kadm.OffsetResponses) string {
	for topic := range found {
		return topic
	}
	return ""
}

func set(names []string) map[string]bool {
	found := map[string]bool{}
	for _, name := range names {
		found[name] = true
	}
	return found
}
