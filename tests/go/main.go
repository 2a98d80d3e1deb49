// Two Go clients of the cluster tests, franz-go and sarama; tests/README.md states the contract.
//
//	clients franz-go|sarama version
//	clients ... produce BOOTSTRAP TOPIC CLIENT COUNT CODECS RATE
//	clients ... consume BOOTSTRAP TOPIC
//	clients ... group   BOOTSTRAP TOPIC GROUP MEMBER
//	clients ... admin   BOOTSTRAP PREFIX GROUP
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	keys        = 16
	delivery    = 120 * time.Second
	quiet       = 60 * time.Second
	session     = 10 * time.Second
	commitEvery = 200 * time.Millisecond
)

// What both clients can do.
type client interface {
	produce(bootstrap []string, topic, name string, parts []share, pace pace) error
	consume(bootstrap []string, topic string) error
	group(ctx context.Context, bootstrap []string, topic, group, member string) error
	admin(bootstrap []string, topic, group string) (steps, func(), error)
}

var clients = map[string]struct {
	client client
	module string
}{
	"franz-go": {franz{}, "github.com/twmb/franz-go"},
	"sarama":   {sarama{}, "github.com/IBM/sarama"},
}

func main() {
	err := run(os.Args[1:])
	lines.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: clients franz-go|sarama VERB ...")
	}
	chosen, ok := clients[args[0]]
	if !ok {
		return fmt.Errorf("unknown client %s", args[0])
	}
	verb, rest := args[1], args[2:]
	wanted := map[string]int{"version": 0, "produce": 6, "consume": 2, "group": 4, "admin": 3}
	if count, ok := wanted[verb]; !ok || count != len(rest) {
		return fmt.Errorf("%s: unknown, or not with %d words", verb, len(rest))
	}
	if verb == "version" {
		printf("%s %s\n", args[0], version(chosen.module))
		return nil
	}
	bootstrap := strings.Split(rest[0], ",")
	switch verb {
	case "produce":
		count, err := strconv.Atoi(rest[3])
		if err != nil {
			return err
		}
		rate, err := strconv.Atoi(rest[5])
		if err != nil {
			return err
		}
		parts := shares(count, strings.Split(rest[4], ","))
		if err := chosen.client.produce(bootstrap, rest[1], rest[2], parts, pace{time.Now(), rate}); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "acked", count)
		return nil
	case "consume":
		return chosen.client.consume(bootstrap, rest[1])
	case "group":
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		if err := chosen.client.group(ctx, bootstrap, rest[1], rest[2], rest[3]); err != nil {
			return err
		}
		event("left", "")
		return nil
	default:
		found, closed, err := chosen.client.admin(bootstrap, rest[1]+"-topic", rest[2])
		if err != nil {
			return err
		}
		defer closed()
		found.run()
		return nil
	}
}

// The version that this program was linked with.
func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	at := slices.IndexFunc(info.Deps, func(m *debug.Module) bool { return m.Path == module })
	return strings.TrimPrefix(info.Deps[at].Version, "v")
}

// The numbers that are sent with one codec.
type share struct {
	codec    string
	from, to int
}

func shares(count int, codecs []string) []share {
	var all []share
	for at, codec := range codecs {
		all = append(all, share{codec, count * at / len(codecs), count * (at + 1) / len(codecs)})
	}
	return all
}

type pace struct {
	start time.Time
	rate  int
}

// Sleeps until record number is due.
func (p pace) wait(number int) {
	due := p.start.Add(time.Duration(number) * time.Second / time.Duration(p.rate))
	if left := time.Until(due); left > time.Millisecond {
		time.Sleep(left)
	}
}

func key(client string, number int) string {
	return fmt.Sprintf("%s-%d", client, number%keys)
}

func value(client string, number int) string {
	return fmt.Sprintf("%s %d %s", client, number, strings.Repeat("glass", 30))
}

var (
	printing sync.Mutex
	lines    = bufio.NewWriterSize(os.Stdout, 1<<16)
)

// Callbacks of several goroutines print: one line at a time.
func printf(format string, values ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Fprintf(lines, format, values...)
}

func record(partition int32, offset int64, key, value []byte) {
	words := strings.SplitN(string(value), " ", 3)
	printf("%d\t%d\t%s\t%s\t%s\n", partition, offset, key, words[0], words[1])
}

// A line of a group member; flushed, because somebody watches.
func event(kind, text string) {
	printf("%s\t%d\t%s\n", kind, time.Now().UnixMilli(), strings.Join(strings.Fields(text), " "))
	printing.Lock()
	defer printing.Unlock()
	lines.Flush()
}

func numbers(partitions []int32) string {
	sorted := slices.Sorted(slices.Values(partitions))
	words := make([]string, len(sorted))
	for at, partition := range sorted {
		words[at] = strconv.Itoa(int(partition))
	}
	return strings.Join(words, ",")
}

// Partition to next offset, as "0:12,3:7".
func offsets(next map[int32]int64) string {
	var words []string
	for partition, offset := range next {
		words = append(words, fmt.Sprintf("%d:%d", partition, offset))
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}
