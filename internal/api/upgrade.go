package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/fail"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// chunk is how much of a bundle travels in one message, bytes.
const chunk = 256 << 10

// Times of calls that take longer than others.
const (
	planWithin = 2 * time.Minute
	lookWithin = 10 * time.Minute
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
	buf := make([]byte, chunk)
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
	return b, document(resp.GetBundle(), &b)
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

// document reads the JSON of an answer.
func document(text []byte, into any) error {
	if err := json.Unmarshal(text, into); err != nil {
		return fail.Errorf(fail.Failed, "the agent's answer can not be read: %w", err).With("see that client and agent are of the same version")
	}
	return nil
}

// PlanUpgrade plans with what the hosts report now.
func (c *Client) PlanUpgrade(ctx context.Context, r request.Request) (upgrade.Plan, error) {
	ctx, cancel := within(ctx, planWithin)
	defer cancel()
	var p upgrade.Plan
	text, err := json.Marshal(r)
	if err != nil {
		return p, fail.Errorf(fail.Invalid, "write the request: %w", err)
	}
	resp, err := c.upgrades.PlanUpgrade(ctx, &apiv1.PlanUpgradeRequest{Request: text})
	if err != nil {
		return p, fromWire(ctx, c.target, err)
	}
	return p, document(resp.GetPlan(), &p)
}

// CheckUpgrade looks at all hosts.
func (c *Client) CheckUpgrade(ctx context.Context, r request.Request) (check.Report, error) {
	ctx, cancel := within(ctx, lookWithin)
	defer cancel()
	var rep check.Report
	text, err := json.Marshal(r)
	if err != nil {
		return rep, fail.Errorf(fail.Invalid, "write the request: %w", err)
	}
	resp, err := c.upgrades.CheckUpgrade(ctx, &apiv1.CheckUpgradeRequest{Request: text})
	if err != nil {
		return rep, fromWire(ctx, c.target, err)
	}
	return rep, document(resp.GetReport(), &rep)
}

// RunUpgrade checks, plans and begins an upgrade, a rollback or a commit.
func (c *Client) RunUpgrade(ctx context.Context, r request.Request) (request.Begun, error) {
	ctx, cancel := within(ctx, lookWithin)
	defer cancel()
	var b request.Begun
	text, err := json.Marshal(r)
	if err != nil {
		return b, fail.Errorf(fail.Invalid, "write the request: %w", err)
	}
	resp, err := c.upgrades.RunUpgrade(ctx, &apiv1.RunUpgradeRequest{Request: text})
	if err != nil {
		return b, fromWire(ctx, c.target, err)
	}
	if resp.GetJob() != nil {
		j := Decode[job.View](resp.GetJob())
		b.Job = &j
	}
	if len(resp.GetReport()) > 0 {
		b.Report = &check.Report{}
		if err := document(resp.GetReport(), b.Report); err != nil {
			return b, err
		}
	}
	if len(resp.GetPlan()) == 0 {
		return b, nil
	}
	return b, document(resp.GetPlan(), &b.Plan)
}

// Upgrade tells how the last upgrade stands.
func (c *Client) Upgrade(ctx context.Context) (request.Standing, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	var u request.Standing
	resp, err := c.upgrades.GetUpgrade(ctx, &apiv1.GetUpgradeRequest{})
	if err != nil {
		return u, fromWire(ctx, c.target, err)
	}
	return u, document(resp.GetUpgrade(), &u)
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
	var rep check.Report
	resp, err := c.upgrades.ReportUpgrade(ctx, &apiv1.ReportUpgradeRequest{})
	if err != nil {
		return rep, fromWire(ctx, c.target, err)
	}
	return rep, document(resp.GetReport(), &rep)
}

// Document writes a value as JSON for the wire.
func Document(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write the answer: %w", err)
	}
	return text, nil
}
