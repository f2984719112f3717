package api

import (
	"context"
	"errors"
	"io"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// Chunk is how much of a bundle travels in one message, bytes.
const Chunk = 256 << 10

// Times of calls that take longer than others.
const (
	planWithin  = 2 * time.Minute
	renewWithin = 30 * time.Second // of a host's certificates
	lookWithin  = 10 * time.Minute
)

// PutBundle brings a bundle to the agent, which checks all of it.
func (c *Client) PutBundle(ctx context.Context, file io.Reader, trust request.Trust) (b request.BundleInfo, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	st, err := c.upgrades.PutBundle(ctx)
	if err != nil {
		return b, fromWire(ctx, c.target, err)
	}
	msg := &apiv1.PutBundleRequest{Keys: trust.Keys, AllowUnsigned: trust.AllowUnsigned, Signature: trust.Signature}
	buf := make([]byte, Chunk)
	for {
		n, rerr := ReadChunk(file, buf)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return b, fail.Errorf(fail.Invalid, "read the bundle: %w", rerr)
		}
		msg.Chunk = buf[:n]
		if serr := st.Send(msg); serr != nil || rerr != nil {
			break // the answer says what came of it
		}
		msg = &apiv1.PutBundleRequest{}
	}
	resp, err := st.CloseAndReceive()
	if err != nil {
		return b, fromWire(ctx, c.target, err)
	}
	return answer[request.BundleInfo](c, resp.GetBundle())
}

// ReadChunk fills buf as far as the reader goes. io.EOF is the reader's own end:
// io.ReadFull would not tell it from a reader that was cut off.
func ReadChunk(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// answer decodes what an answer is about. An agent that says nothing of it is of another
// version.
func answer[T, M any](c *Client, m *M) (v T, err error) {
	if m == nil {
		return v, fail.Errorf(fail.Failed, "the agent at %s is of another version: its answer can not be read", c.target).With(sameVersion)
	}
	return Decode[T](m), nil
}

// PlanUpgrade plans with what the hosts report now.
func (c *Client) PlanUpgrade(ctx context.Context, r request.Request) (upgrade.Plan, error) {
	ctx, cancel := within(ctx, planWithin)
	defer cancel()
	resp, err := c.upgrades.PlanUpgrade(ctx, &apiv1.PlanUpgradeRequest{Request: Encode[*apiv1.UpgradeRequest](r)})
	if err != nil {
		return upgrade.Plan{}, fromWire(ctx, c.target, err)
	}
	return answer[upgrade.Plan](c, resp.GetPlan())
}

// CheckUpgrade looks at all hosts.
func (c *Client) CheckUpgrade(ctx context.Context, r request.Request) (check.Report, error) {
	ctx, cancel := within(ctx, lookWithin)
	defer cancel()
	resp, err := c.upgrades.CheckUpgrade(ctx, &apiv1.CheckUpgradeRequest{Request: Encode[*apiv1.UpgradeRequest](r)})
	if err != nil {
		return check.Report{}, fromWire(ctx, c.target, err)
	}
	return answer[check.Report](c, resp.GetReport())
}

// RunUpgrade checks, plans and begins an upgrade, a rollback or a commit.
func (c *Client) RunUpgrade(ctx context.Context, r request.Request) (request.Begun, error) {
	ctx, cancel := within(ctx, lookWithin)
	defer cancel()
	resp, err := c.upgrades.RunUpgrade(ctx, &apiv1.RunUpgradeRequest{Request: Encode[*apiv1.UpgradeRequest](r)})
	if err != nil {
		return request.Begun{}, fromWire(ctx, c.target, err)
	}
	return Decode[request.Begun](resp), nil
}

// Upgrade tells how the last upgrade stands.
func (c *Client) Upgrade(ctx context.Context) (request.Standing, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.upgrades.GetUpgrade(ctx, &apiv1.GetUpgradeRequest{})
	if err != nil {
		return request.Standing{}, fromWire(ctx, c.target, err)
	}
	u, err := answer[request.Standing](c, resp.GetUpgrade())
	if u.Hosts == nil {
		u.Hosts = []request.HostStanding{} // programs read a list
	}
	return u, err
}

// AdmitHost approves a host of the run, or with drop leaves one out that is away.
func (c *Client) AdmitHost(ctx context.Context, host cluster.HostID, drop bool) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if _, err := c.upgrades.AdmitHost(ctx, &apiv1.AdmitHostRequest{Host: string(host), Drop: drop}); err != nil {
		return fromWire(ctx, c.target, err)
	}
	return nil
}

// ReportUpgrade makes the report of the last upgrade.
func (c *Client) ReportUpgrade(ctx context.Context) (check.Report, error) {
	ctx, cancel := within(ctx, lookWithin)
	defer cancel()
	resp, err := c.upgrades.ReportUpgrade(ctx, &apiv1.ReportUpgradeRequest{})
	if err != nil {
		return check.Report{}, fromWire(ctx, c.target, err)
	}
	return answer[check.Report](c, resp.GetReport())
}
