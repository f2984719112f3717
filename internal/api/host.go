package api

import (
	"context"
	"errors"
	"io"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
)

// fenceTestTimeout is of a test of fence devices, which may take 15 s, by another host than the one that is asked.
const fenceTestTimeout = 40 * time.Second

// Version names an agent's build.
type Version struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	API     string `json:"api,omitempty"`
	// Settings is the file that has the agent's settings, on its host; "": it does not tell.
	Settings string `json:"settings,omitempty"`
}

// HostLog tells lines of a host's log.
func (c *Client) HostLog(ctx context.Context, q cluster.LogQuery) (cluster.HostLog, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := c.hosts.GetHostLog(ctx, Encode[*apiv1.GetHostLogRequest](q))
	if err != nil {
		return cluster.HostLog{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.HostLog](r.Log), nil
}

// TestFence asks the fence devices of a host for their state, and changes nothing.
func (c *Client) TestFence(ctx context.Context, host cluster.HostID) (cluster.FenceTest, error) {
	ctx, cancel := within(ctx, fenceTestTimeout)
	defer cancel()
	r, err := c.hosts.TestFence(ctx, &apiv1.TestFenceRequest{Host: string(host)})
	if err != nil {
		return cluster.FenceTest{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.FenceTest](r.Test), nil
}

// Report has a host make its archive for those who help, and writes it. What was written before an error is a part of it.
func (c *Client) Report(ctx context.Context, host cluster.HostID, days int, to io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.hosts.GetReport(ctx, &apiv1.GetReportRequest{Host: string(host), Days: int64(days)})
	if err != nil {
		return fromWire(ctx, c.target, err)
	}
	defer func() { // a stream that was not read to its end says so, which is no news
		cancel()
		st.Close()
	}()
	for st.Receive() {
		if _, err := to.Write(st.Msg().GetChunk()); err != nil {
			return err
		}
	}
	if err := st.Err(); err != nil && !errors.Is(err, io.EOF) {
		return fromWire(ctx, c.target, err)
	}
	return nil
}
