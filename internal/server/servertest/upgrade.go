package servertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"sync"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// Upgrades is a fake of this host's part in upgrades and in jobs, with the hosts
// node1 to node3 and version 1.0.0. It checks bundles and plans as an agent does.
// A run goes on by one stage at each look at it.
type Upgrades struct {
	*Jobs

	mu      sync.Mutex
	bundles map[string]stored
	report  check.Report
	shown   *request.Standing // what Upgrade answers instead of how the run stands
	fails   string            // id of the step that fails once
	run     *run              // the last one
	version string
	touched map[cluster.HostID]upgrade.HostState
	cluster upgrade.ClusterState
	last    struct{ bundle, run, to string } // of the last upgrade
	sent    []string
	asked   []request.Request
}

// stored is a bundle that was taken in.
type stored struct {
	request.BundleInfo
	manifest manifest.Manifest
	text     []byte
}

// NewUpgrades returns a fake beside a fake of jobs.
func NewUpgrades(jobs *Jobs) *Upgrades {
	f := &Upgrades{Jobs: jobs, bundles: map[string]stored{}, version: "1.0.0",
		touched: map[cluster.HostID]upgrade.HostState{}, cluster: upgrade.Normal}
	f.report = check.Report{
		When: check.Before, Cluster: "prod", From: "1.0.0", To: "1.1.0", Bundle: "app", Began: jobs.Now, Ended: jobs.Now,
		Hosts: []check.HostRow{{Name: "node1", Local: true, Version: "1.0.0"}, {Name: "node2", Version: "1.0.0"},
			{Name: "node3", Version: "1.0.0"}},
		Findings: []check.Finding{
			{Check: "time-skew", Scope: check.ScopeHost, Where: "node2", Host: "node2", Level: check.Warn,
				Text: "its clock is 2 s late", Remedy: "let it follow a time server"},
			{Check: "free-space", Scope: check.ScopeCluster, Level: check.OK, Text: "Free space"},
		},
	}
	return f
}

// SetReport sets what checks find.
func (f *Upgrades) SetReport(r check.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report = r
}

// Show sets what Upgrade answers, with a job that is asked for by its id; nil: how the run stands.
func (f *Upgrades) Show(u *request.Standing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shown = u
}

// FailStep makes a step fail once.
func (f *Upgrades) FailStep(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fails = id
}

// Sent returns the guests that were sent away: NAME to HOST.
func (f *Upgrades) Sent() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.sent)
}

// Asked returns the requests to plan, to check and to run, in order.
func (f *Upgrades) Asked() []request.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// PutBundle is as server.Upgrades wants it.
func (f *Upgrades) PutBundle(ctx context.Context, file io.Reader, trust request.Trust) (request.BundleInfo, error) {
	o := bundle.Options{AllowUnsigned: trust.AllowUnsigned, Signature: trust.Signature}
	for _, text := range trust.Keys {
		key, err := bundle.ParsePublicKey([]byte(text))
		if err != nil {
			return request.BundleInfo{}, fail.Errorf(fail.Invalid, "public key: %w", err)
		}
		o.Keys = append(o.Keys, key)
	}
	var text bytes.Buffer
	rep, err := bundle.Verify(ctx, io.TeeReader(file, &text), o)
	if err != nil {
		return request.BundleInfo{}, fail.Errorf(fail.Invalid, "bundle: %w", err)
	}
	if _, err := io.Copy(&text, file); err != nil {
		return request.BundleInfo{}, fmt.Errorf("read the bundle: %w", err)
	}
	sum := sha256.Sum256(text.Bytes())
	b := request.BundleInfo{
		SHA256: hex.EncodeToString(sum[:]), Size: int64(text.Len()), Name: rep.Manifest.Name, Version: rep.Manifest.Version,
		Unsigned: !rep.Signed, KeyID: rep.KeyID,
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bundles[b.SHA256] = stored{b, *rep.Manifest, text.Bytes()}
	return b, nil
}

// OpenBundle is as server.Agents wants it.
func (f *Upgrades) OpenBundle(sha string, offset int64) (io.ReadCloser, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b, err := f.bundle(sha)
	if err != nil {
		return nil, 0, err
	}
	if offset < 0 || offset > b.Size {
		return nil, 0, fail.Errorf(fail.Invalid, "offset %d: the bundle has %d bytes", offset, b.Size)
	}
	return io.NopCloser(bytes.NewReader(b.text[offset:])), b.Size, nil
}

// bundle finds a bundle. The caller holds mu.
func (f *Upgrades) bundle(sha string) (stored, error) {
	b, ok := f.bundles[sha]
	if !ok {
		return b, fail.Errorf(fail.Invalid, "bundle %.70q: this agent does not have it", sha)
	}
	return b, nil
}

// GatherFacts is as server.Agents wants it: every command that is asked for is there.
func (f *Upgrades) GatherFacts(_ context.Context, w fact.Wanted) (fact.Facts, error) {
	out := fact.Facts{Host: w.Request.Host, Commands: map[string]string{}}
	for _, c := range w.Request.Commands {
		out.Commands[c] = "/bin/" + c
	}
	return out, nil
}

// SendGuest is as server.Agents wants it.
func (f *Upgrades) SendGuest(_ context.Context, uuid, name string, to cluster.HostID, network string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if uuid == "" {
		return fail.Errorf(fail.Invalid, "guest %q: no such guest runs here", name)
	}
	f.sent = append(f.sent, fmt.Sprintf("%s to %s over %s", name, to, network))
	return nil
}

// Awaits is as server.Agents wants it: a job brings the guest u1 to its host.
func (f *Upgrades) Awaits(_ context.Context, to cluster.HostID, uuid string) error {
	if uuid != "u1" {
		return fail.Errorf(fail.Denied, "not allowed: no job has host %s bring guest %s back", to, uuid)
	}
	return nil
}

// PlanUpgrade is as server.Upgrades wants it.
func (f *Upgrades) PlanUpgrade(_ context.Context, r request.Request) (upgrade.Plan, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	return f.plan(r)
}

// CheckUpgrade is as server.Upgrades wants it.
func (f *Upgrades) CheckUpgrade(_ context.Context, r request.Request) (check.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	if _, err := f.plan(r); r.Bundle != "" && err != nil {
		return check.Report{}, err
	}
	return f.report, nil
}

// ReportUpgrade is as server.Upgrades wants it.
func (f *Upgrades) ReportUpgrade(context.Context) (check.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.run == nil {
		return check.Report{}, fail.Errorf(fail.Refused, "report: no upgrade has run yet")
	}
	r := f.report
	r.When = check.After
	return r, nil
}

// plan plans. The caller holds mu.
func (f *Upgrades) plan(r request.Request) (upgrade.Plan, error) {
	if r.Purpose == upgrade.ForCommit || r.Purpose == upgrade.ForRollback {
		return f.planBack(r)
	}
	b, err := f.bundle(r.Bundle)
	if err != nil {
		return upgrade.Plan{}, err
	}
	inv := inventory.Inventory{Cluster: "prod", Version: f.version}
	if r.Version != "" {
		inv.Version = r.Version
	}
	for _, name := range nodes() {
		inv.Hosts = append(inv.Hosts, inventory.Host{Name: name, MemoryMiB: 8192})
		inv.VMs = append(inv.VMs, inventory.VM{Name: "vm-" + string(name), UUID: "u-" + string(name), Host: name, MemoryMiB: 1024, Running: true})
	}
	if r.Inventory != nil {
		if inv, err = upgrade.Overlay(inv, *r.Inventory); err != nil {
			return upgrade.Plan{}, fail.Errorf(fail.Invalid, "%w", err)
		}
	}
	p, err := upgrade.Build(b.manifest, inv, r.Options)
	if err != nil {
		return p, fail.Errorf(fail.Invalid, "%w", err)
	}
	return p, nil
}

func nodes() []cluster.HostID { return []cluster.HostID{"node1", "node2", "node3"} }

// planBack plans a rollback or a commit. The caller holds mu.
func (f *Upgrades) planBack(r request.Request) (upgrade.Plan, error) {
	if f.last.run == "" {
		return upgrade.Plan{}, fail.Errorf(fail.Refused, "%s: no upgrade has run that is not committed", r.Purpose)
	}
	p := upgrade.Plan{Format: 1, Purpose: r.Purpose, Bundle: f.bundles[f.last.bundle].Name, From: f.version,
		To: f.last.to, Begin: upgrade.Status{Cluster: f.cluster}}
	p.Options.Mode, p.Options.MaxUnavailable = manifest.Rolling, upgrade.Limit{Count: 1}
	kind, stage := upgrade.KindCommit, upgrade.Stage{Name: "modules", Kind: upgrade.Change}
	hosts := nodes()
	switch {
	case r.Purpose == upgrade.ForRollback:
		p.From, p.To = p.To, p.From
		kind, stage.Name, stage.Kind = upgrade.KindAction, "hosts", upgrade.Turn
		if len(r.Hosts) > 0 {
			hosts = r.Hosts
		}
	case f.cluster == upgrade.Normal:
		return p, fail.Errorf(fail.Refused, "the cluster is normal: there is nothing to commit").With("see: holdfast upgrade status")
	case f.cluster != upgrade.Prepared:
		p.Findings = append(p.Findings, upgrade.Finding{Rule: "not-prepared", Level: upgrade.Block,
			Text: fmt.Sprintf("The cluster is %s: only an upgrade that is done on all hosts can be committed.",
				f.cluster), Remedy: "finish the upgrade, or roll it back"})
	}
	for _, h := range hosts {
		if !slices.Contains(nodes(), h) {
			return p, fail.Errorf(fail.Invalid, "host %q: no such host", h)
		}
		if r.Purpose == upgrade.ForRollback && f.touched[h] == "" {
			return p, fail.Errorf(fail.Refused, "rollback: %s was never upgraded", h)
		}
		var s upgrade.Step
		s.ID, s.Host, s.Kind = string(h)+"/"+string(r.Purpose), h, kind
		stage.Chains = append(stage.Chains, upgrade.Chain{Host: h, Steps: []upgrade.Step{s}})
		p.Hosts = append(p.Hosts, upgrade.PlannedHost{Name: h, Version: f.last.to, Wave: len(p.Hosts) + 1})
	}
	p.Stages = []upgrade.Stage{stage}
	return p, nil
}

// RunUpgrade is as server.Upgrades wants it.
func (f *Upgrades) RunUpgrade(_ context.Context, user string, r request.Request) (request.Begun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	if f.run != nil && f.run.job.State != "ended" {
		return request.Begun{}, fail.Errorf(fail.Refused, "%s, begun by %s, is %s: only one upgrade at a time",
			f.run.job.ID, f.run.job.User, f.run.job.State)
	}
	p, err := f.plan(r)
	if err != nil {
		return request.Begun{}, err
	}
	if p.Blocked() || check.Worst(f.report.Findings) == check.Fail {
		rep := f.report
		return request.Begun{Plan: p, Report: &rep}, nil
	}
	if p.Purpose == upgrade.ForUpgrade {
		f.last.bundle, f.last.to, f.last.run = r.Bundle, p.To, fmt.Sprintf("upgrade-%d", len(f.asked))
	}
	f.run = newRun(p, job.View{
		ID: fmt.Sprintf("%s-%d", p.Purpose, len(f.asked)), Kind: "upgrade",
		Title: fmt.Sprintf("%s to %s %s", p.Purpose, p.Bundle, p.To), User: user,
		State: "active", Began: f.Now,
	})
	f.run.begin()
	f.mark()
	j := f.run.shown(true)
	return request.Begun{Job: &j, Plan: p}, nil
}

// AdmitHost is as server.Upgrades wants it.
func (f *Upgrades) AdmitHost(_ context.Context, user string, host cluster.HostID, drop bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.run == nil || f.run.job.State == "ended":
		return fail.Errorf(fail.Refused, "host %s: no upgrade is under way", host)
	case !slices.Contains(nodes(), host):
		return fail.Errorf(fail.Invalid, "host %q: the run has no such host", host)
	case drop && host == "node1":
		return fail.Errorf(fail.Refused, "drop %s: its agent is there", host)
	case drop:
		f.run.dropped[host] = user
	default:
		f.run.approved[host] = user
	}
	f.run.begin()
	return nil
}

// Upgrade is as server.Upgrades wants it.
func (f *Upgrades) Upgrade(context.Context) (request.Standing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown != nil {
		return *f.shown, nil
	}
	u := request.Standing{ClusterState: f.cluster, Version: f.version, Hosts: []request.HostStanding{}}
	if f.run == nil {
		for _, h := range nodes() {
			u.Hosts = append(u.Hosts, request.HostStanding{Name: h})
		}
		u.Next = request.Next(&u, anything)
		return u, nil
	}
	f.look()
	u.ClusterState, u.Version = f.cluster, f.version
	f.run.describe(&u, f.touched)
	b := f.bundles[f.last.bundle].BundleInfo
	u.Bundle, u.Run = &b, f.last.run
	u.Next = request.Next(&u, anything)
	return u, nil
}

// anything is accepted.
func anything(request.Verb, string) bool { return true }
