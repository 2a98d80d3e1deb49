package main

import (
	"fmt"

	kafka "github.com/IBM/sarama"
)

func (sarama) admin(bootstrap []string, topic, group string) (steps, func(), error) {
	config := saramaConfig()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = kafka.WaitForAll // only what is committed can be deleted
	config.Producer.Partitioner = kafka.NewManualPartitioner
	client, err := kafka.NewClient(bootstrap, config)
	if err != nil {
		return steps{}, nil, err
	}
	admin, err := kafka.NewClusterAdminFromClient(client)
	if err != nil {
		return steps{}, nil, err
	}
	s := steps{topic: topic, group: group}
	s.create = func() error {
		hours := "7200000"
		entries := map[string]*string{"retention.ms": &hours}
		detail := &kafka.TopicDetail{NumPartitions: 2, ReplicationFactor: 3, ConfigEntries: entries}
		return admin.CreateTopic(topic, detail, false)
	}
	s.topics = func() (map[string]bool, error) {
		found, err := admin.ListTopics()
		names := map[string]bool{}
		for name := range found {
			names[name] = true
		}
		return names, err
	}
	s.partitions = func() (int, error) {
		found, err := admin.DescribeTopics([]string{topic})
		if err != nil {
			return 0, err
		}
		for _, partition := range found[0].Partitions {
			if len(partition.Replicas) != 3 || partition.Leader < 0 {
				return -1, nil
			}
		}
		return len(found[0].Partitions), nil
	}
	s.config = func(name string) (string, error) {
		found, err := admin.DescribeConfig(kafka.ConfigResource{
			Type: kafka.TopicResource, Name: topic, ConfigNames: []string{name},
		})
		if err != nil || len(found) != 1 {
			return fmt.Sprint(found), err
		}
		return found[0].Value, nil
	}
	s.alter = func(name, value string) error {
		set := kafka.IncrementalAlterConfigsEntry{Operation: kafka.IncrementalAlterConfigsOperationSet, Value: &value}
		entries := map[string]kafka.IncrementalAlterConfigsEntry{name: set}
		return admin.IncrementalAlterConfig(kafka.TopicResource, topic, entries, false)
	}
	s.grow = func(partitions int) error {
		return admin.CreatePartitions(topic, int32(partitions), nil, false)
	}
	s.fill = func(records int) error {
		producer, err := kafka.NewSyncProducerFromClient(client)
		if err != nil {
			return err
		}
		defer producer.Close()
		for range records {
			sent := &kafka.ProducerMessage{Topic: topic, Partition: 0, Value: kafka.StringEncoder("glass")}
			if _, _, err := producer.SendMessage(sent); err != nil {
				return err
			}
		}
		return nil
	}
	s.deleteRecords = func(before int64) error {
		return admin.DeleteRecords(topic, map[int32]int64{0: before})
	}
	s.start = func() (int64, error) { return client.GetOffset(topic, 0, kafka.OffsetOldest) }
	s.brokers = func() (int, error) {
		found, _, err := admin.DescribeCluster()
		return len(found), err
	}
	s.groups = func() (map[string]bool, error) {
		found, err := admin.ListConsumerGroups()
		names := map[string]bool{}
		for name := range found {
			names[name] = true
		}
		return names, err
	}
	s.groupState = func() (string, error) {
		found, err := admin.DescribeConsumerGroups([]string{group})
		if err != nil {
			return "", err
		}
		return found[0].State, nil
	}
	s.groupOffsets = func() (int, error) {
		found, err := admin.ListConsumerGroupOffsets(group, nil)
		if err != nil {
			return 0, err
		}
		return len(found.Blocks), nil
	}
	s.deleteGroup = func() error { return admin.DeleteConsumerGroup(group) }
	s.delete = func() error { return admin.DeleteTopic(topic) }
	return s, func() { _ = admin.Close() }, nil
}
