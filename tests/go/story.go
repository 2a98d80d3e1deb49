package main

import (
	"fmt"
	"strings"
	"time"
)

// Other brokers learn of an administrator's change a moment later.
const settle = 20 * time.Second

// What an administrator does, in the order in which it is done.
type steps struct {
	create        func() error
	topics        func() (map[string]bool, error)
	partitions    func() (int, error) // -1 while one has no leader or too few replicas
	config        func(name string) (string, error)
	alter         func(name, value string) error
	grow          func(partitions int) error
	fill          func(records int) error
	deleteRecords func(before int64) error
	start         func() (int64, error)
	brokers       func() (int, error)
	groups        func() (map[string]bool, error)
	groupState    func() (string, error)
	groupOffsets  func() (int, error)
	deleteGroup   func() error
	delete        func() error
	topic, group  string
}

func (s steps) run() {
	step := func(name string, run func() error) {
		if err := run(); err != nil {
			printf("%s\tERROR %s\n", name, strings.Join(strings.Fields(err.Error()), " "))
			return
		}
		printf("%s\tok\n", name)
	}
	described := func(count int) error {
		return eventually(func() (bool, error) { return is(s.partitions, count) })
	}
	config := func(name, value string) error {
		return eventually(func() (bool, error) {
			found, err := s.config(name)
			return found == value, err
		})
	}
	step("create-topic", s.create)
	step("list-topics", func() error { return eventually(has(s.topics, s.topic, true)) })
	step("describe-topic", func() error { return described(2) })
	step("describe-configs", func() error { return config("retention.ms", "7200000") })
	step("alter-configs", func() error {
		if err := s.alter("retention.ms", "3600000"); err != nil {
			return err
		}
		return config("retention.ms", "3600000")
	})
	step("create-partitions", func() error {
		if err := s.grow(4); err != nil {
			return err
		}
		return described(4)
	})
	step("delete-records", func() error {
		if err := s.fill(5); err != nil {
			return err
		}
		if err := s.deleteRecords(3); err != nil {
			return err
		}
		return eventually(func() (bool, error) { return is(s.start, 3) })
	})
	step("describe-cluster", func() error {
		return eventually(func() (bool, error) { return is(s.brokers, 3) })
	})
	step("list-groups", func() error { return once(has(s.groups, s.group, true)) })
	step("describe-group", func() error {
		return once(func() (bool, error) { return is(s.groupState, "Empty") })
	})
	step("group-offsets", func() error {
		return once(func() (bool, error) { found, err := s.groupOffsets(); return found > 0, err })
	})
	step("delete-group", func() error {
		if err := s.deleteGroup(); err != nil {
			return err
		}
		return eventually(has(s.groups, s.group, false))
	})
	step("delete-topic", func() error {
		if err := s.delete(); err != nil {
			return err
		}
		return eventually(has(s.topics, s.topic, false))
	})
}

func has(list func() (map[string]bool, error), name string, there bool) func() (bool, error) {
	return func() (bool, error) {
		found, err := list()
		return err == nil && found[name] == there, err
	}
}

func is[T comparable](ask func() (T, error), wanted T) (bool, error) {
	found, err := ask()
	if err == nil && found != wanted {
		err = fmt.Errorf("%v instead of %v", found, wanted)
	}
	return err == nil, err
}

func once(check func() (bool, error)) error {
	holds, err := check()
	if err == nil && !holds {
		err = fmt.Errorf("not so")
	}
	return err
}

// Waits until it holds; a topic that another broker does not know yet is no answer.
func eventually(check func() (bool, error)) error {
	start := time.Now()
	for {
		err := once(check)
		if err == nil || time.Since(start) > settle {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}
