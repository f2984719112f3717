package api

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// beginWithin is how long BeginPair and ResolvePair take at most: a database may have to start.
const beginWithin = time.Minute

// Pair tells the state of the two-node pair.
func (c *Client) Pair(ctx context.Context) (cluster.PairStatus, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.pair.GetPair(ctx, &apiv1.GetPairRequest{})
	if err != nil {
		return cluster.PairStatus{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.PairStatus](resp.GetPair()), nil
}

// Times of WatchPair.
const (
	pairAgain  = 100 * time.Millisecond // between two attempts to reach an agent that does not tell of changes
	pairSilent = 5 * time.Second        // after which an agent that has told nothing, as it does each second, is asked
)

// WatchPair yields the state of the pair, or why the agent does not tell it, at once, at each change and at least every second,
// until ctx ends or the caller stops.
func (c *Client) WatchPair(ctx context.Context) iter.Seq2[cluster.PairStatus, error] {
	return c.watchPair(ctx, pairSilent)
}

func (c *Client) watchPair(ctx context.Context, silent time.Duration) iter.Seq2[cluster.PairStatus, error] {
	return func(yield func(cluster.PairStatus, error) bool) {
		for ctx.Err() == nil {
			watch, cancel := context.WithCancel(ctx)
			idle := time.AfterFunc(silent, cancel)
			stop := func() { idle.Stop(); cancel() }
			for _, err := range c.WatchStatus(watch) { // it changes with each record of a pair
				if err != nil {
					break
				}
				if !yield(c.Pair(ctx)) {
					stop()
					return
				}
				idle.Reset(silent)
			}
			stop()
			if ctx.Err() != nil || !yield(c.Pair(ctx)) || !clock.Sleep(ctx, pairAgain) {
				return
			}
		}
	}
}

// BeginPair makes the copy of the agent's host the one that the pair begins with.
func (c *Client) BeginPair(ctx context.Context) error {
	ctx, cancel := within(ctx, beginWithin)
	defer cancel()
	if _, err := c.pair.BeginPair(ctx, &apiv1.BeginPairRequest{}); err != nil {
		return fromWire(ctx, c.target, err)
	}
	return nil
}

// ResolvePair makes the copy of the agent's host, whose name is keep, the one that is kept.
func (c *Client) ResolvePair(ctx context.Context, keep string) error {
	ctx, cancel := within(ctx, beginWithin)
	defer cancel()
	if _, err := c.pair.ResolvePair(ctx, &apiv1.ResolvePairRequest{Keep: keep}); err != nil {
		return fromWire(ctx, c.target, err)
	}
	return nil
}

// partitionWithin is how long AddPartition and RemovePartition take at most: a file system is made.
const partitionWithin = 15 * time.Minute

// AddPartition makes a file system beside the data of the pair. The agent is that of the node that serves.
func (c *Client) AddPartition(ctx context.Context, in cluster.PartitionOrder) error {
	ctx, cancel := within(ctx, partitionWithin)
	defer cancel()
	if _, err := c.pair.AddPartition(ctx, &apiv1.AddPartitionRequest{Name: in.Name, Disk: in.Disk, Mount: in.Mount}); err != nil {
		return fromWire(ctx, c.target, err)
	}
	return nil
}

// RemovePartition takes it away; left are nodes that do so when they are back.
func (c *Client) RemovePartition(ctx context.Context, name string) (left []string, err error) {
	ctx, cancel := within(ctx, partitionWithin)
	defer cancel()
	resp, err := c.pair.RemovePartition(ctx, &apiv1.RemovePartitionRequest{Name: name})
	if err != nil {
		return nil, fromWire(ctx, c.target, err)
	}
	return resp.GetLeft(), nil
}

// CopyPair writes a copy of the data on the agent's host, of one moment, until ctx ends. Before,
// it tells about how many bytes will come, unless that agent is of a version that does not.
// Only the agent of the other node may call it.
func (c *Client) CopyPair(ctx context.Context, w io.Writer, about func(bytes int64) error) (err error) {
	st, err := c.agents.GetCopy(ctx, &apiv1.GetCopyRequest{})
	if err != nil {
		return fromWire(ctx, c.target, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for st.Receive() {
		if bytes := st.Msg().GetAbout(); bytes > 0 {
			if err := about(bytes); err != nil {
				return err
			}
		}
		if _, err := w.Write(st.Msg().GetChunk()); err != nil {
			return err
		}
	}
	if err := st.Err(); err != nil {
		return fromWire(ctx, c.target, err)
	}
	return nil
}

// PairRows reads rows of the database on the agent's host. Only the agent of the other node may call it.
func (c *Client) PairRows(ctx context.Context, q cluster.RowsQuery) (cluster.RowsPart, error) {
	ctx, cancel := within(ctx, rowsWithin)
	defer cancel()
	resp, err := c.agents.GetRows(ctx, &apiv1.GetRowsRequest{Query: Encode[*apiv1.RowsQuery](q)})
	if err != nil {
		return cluster.RowsPart{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.RowsPart](resp.GetPart()), nil
}

// rowsWithin is how long PairRows takes at most: several statements, each with a bound of its own.
const rowsWithin = 30 * time.Second

// PeerStatus asks what the agent's host has of the store of a pair without a third voter. Only
// the agent of the other node may call it.
func (c *Client) PeerStatus(ctx context.Context) (cluster.PeerStatus, error) {
	resp, err := c.agents.GetPeerStatus(ctx, &apiv1.GetPeerStatusRequest{})
	if err != nil {
		return cluster.PeerStatus{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.PeerStatus](resp.GetStatus()), nil
}
