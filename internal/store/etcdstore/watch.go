package etcdstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"holdfast/internal/store"
)

const (
	// progressEvery is the time between two questions to the member how far the
	// watch has come.
	progressEvery = time.Second
	// silence is how long a watch may hear nothing, although it asks, before it
	// counts as broken: the connection alone would tell after 12 s only.
	silence = 4 * time.Second
)

// Watch implements store.Store. While nothing changes, batches without changes
// tell how far the watch has come. A watch whose connection breaks goes on with
// another member by itself; it ends with store.ErrRetry when its member has no
// leader, or when none was heard for 4 s.
func (c *Client) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	w := &watch{out: make(chan store.Batch)}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.watches.Add(1)
	}
	c.mu.Unlock()
	if closed {
		w.err = fmt.Errorf("watch %s: %w", prefix, c.closedOr(store.ErrDefinite))
		close(w.out)
		return w
	}
	go func() {
		defer c.watches.Done()
		defer close(w.out)
		if err := c.watch(ctx, prefix, max(from, 1), w.out); err != nil && ctx.Err() == nil {
			w.err = fmt.Errorf("watch %s: %w", prefix, c.closedOr(err))
		}
	}()
	return w
}

type watch struct {
	out chan store.Batch
	err error // written before out closes
}

func (w *watch) C() <-chan store.Batch { return w.out }
func (w *watch) Err() error            { return w.err }

// watch delivers until something ends it.
func (c *Client) watch(ctx context.Context, prefix string, from int64, out chan<- store.Batch) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with this call, which cancels ctx
		select {
		case <-c.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	// The library puts watches with the same metadata on one stream. Each has its
	// own here, so that one that is given up does not come back to the same member.
	stream := metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), "holdfast-watch", strconv.FormatInt(c.streams.Add(1), 10))
	// Watch of the library returns when a member has answered, and waits for ever.
	giveUp := time.AfterFunc(silence, cancel)
	in := c.etcd.Watch(stream, c.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(from))
	if !giveUp.Stop() {
		return fmt.Errorf("%w: no member answered for %s", store.ErrRetry, silence)
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	heard := time.Now()
	next := from
	for {
		select {
		case <-ctx.Done():
			return store.ErrRetry
		case <-tick.C:
			if time.Since(heard) > silence {
				return fmt.Errorf("%w: the member was silent for %s", store.ErrRetry, silence)
			}
			if err := c.askProgress(stream); err != nil {
				return classify(err, reading)
			}
		case resp, open := <-in:
			if !open {
				return fmt.Errorf("%w: the stream ended", store.ErrRetry)
			}
			if err := resp.Err(); err != nil {
				return classify(err, reading)
			}
			b := c.batch(resp)
			if b.Rev < next {
				heard = time.Now()
				continue // nothing new
			}
			select {
			case <-ctx.Done():
				return store.ErrRetry
			case out <- b:
			}
			next = b.Rev + 1
			// A slow reader is not the member's silence.
			heard = time.Now()
		}
	}
}

func (c *Client) askProgress(stream context.Context) error {
	ctx, cancel := context.WithTimeout(stream, silence)
	defer cancel()
	return c.etcd.RequestProgress(ctx)
}

// batch translates a response. Its revision is that of the last change and not
// the header's, which may be ahead while old changes are still to come.
func (c *Client) batch(resp clientv3.WatchResponse) store.Batch {
	if len(resp.Events) == 0 {
		return store.Batch{Rev: resp.Header.GetRevision()}
	}
	b := store.Batch{Changes: make([]store.Change, len(resp.Events))}
	for i, e := range resp.Events {
		if e.Type == clientv3.EventTypeDelete {
			b.Changes[i] = store.Change{Deleted: true, KV: store.KV{Key: c.key(e.Kv), ModRev: e.Kv.ModRevision}}
		} else {
			b.Changes[i] = store.Change{KV: c.kv(e.Kv)}
		}
		b.Rev = e.Kv.ModRevision
	}
	return b
}

func (c *Client) key(kv *mvccpb.KeyValue) string {
	return strings.TrimPrefix(string(kv.Key), c.prefix)
}

// kv translates a key. An empty value is not nil, as nil stands for a deletion.
func (c *Client) kv(kv *mvccpb.KeyValue) store.KV {
	value := kv.Value
	if value == nil {
		value = []byte{}
	}
	return store.KV{Key: c.key(kv), Value: value, CreateRev: kv.CreateRevision, ModRev: kv.ModRevision}
}
