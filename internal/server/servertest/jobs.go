package servertest

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
	"holdfast/internal/transition/net"
)

// Jobs is a fake of this host's part in jobs. A drain goes on by one state at
// each look at it, and that of a host in Fails fails.
type Jobs struct {
	Now   time.Time
	Other []transition.SiteState // other clusters
	Fails []cluster.HostID

	// Waits is for what a drain waits; "": for a snapshot of vm2.
	Waits string

	moved cluster.HostID // a guest was moved there, and nobody knows whether it runs

	// Guests are the hosts that report. Nil: node1 to node3, and node4, which is no
	// member.
	Reported []inventory.Summary
	VMs      []inventory.Guest // nil: four that are made up

	// Files are the contents of files of hosts, by HOST:PATH.
	Files map[string]string

	mu     sync.Mutex
	jobs   []job.View // newest first
	unread error      // why nobody knows what the hosts report
}

// Unread makes what the hosts report unknown; nil: known.
func (f *Jobs) Unread(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unread = err
}

// Guests lists guests: those of List, or four that are made up.
func (f *Jobs) Guests(_ context.Context, q inventory.GuestQuery) (inventory.GuestPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unread != nil {
		return inventory.GuestPage{}, f.unread
	}
	if f.VMs == nil {
		f.VMs = []inventory.Guest{
			{Name: "db", UUID: "5eed0001", Host: "node1", State: inventory.GuestRuns, MemoryMiB: 8192, CPUs: 4, Addresses: []string{"10.0.1.5"}},
			{Name: "mgmt", UUID: "5eed0002", Host: "node1", State: inventory.GuestRuns, MemoryMiB: 4096, CPUs: 2, Protected: true},
			{Name: "old", UUID: "5eed0003", Host: "node2", State: inventory.GuestOff, MemoryMiB: 512, CPUs: 1, System: "centos6.5"},
			{Name: "web", UUID: "5eed0004", Host: "node3", State: inventory.GuestUnknown, MemoryMiB: 2048, CPUs: 2, Silent: time.Minute,
				Fixed: []string{"a host device"}, Busy: "a backup"},
		}
	}
	page := q.Of(f.VMs)
	for _, g := range f.VMs {
		if g.State == inventory.GuestUnknown && !slices.Contains(page.Silent, g.Host) {
			page.Silent = append(page.Silent, g.Host)
		}
	}
	return page, nil
}

// Hosts lists the hosts that report.
func (f *Jobs) Hosts(context.Context) ([]inventory.Summary, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unread != nil {
		return nil, f.unread
	}
	if f.Reported == nil {
		for i := range 4 {
			f.Reported = append(f.Reported, inventory.Summary{Name: cluster.HostID(fmt.Sprintf("node%d", i+1)),
				Addr: fmt.Sprintf("10.0.0.%d", i+11), Agent: "1.0.0", Up: true, Guests: 2 * i})
		}
		// The last one tells of none.
		for i, states := range [][]string{{inventory.CertValid, inventory.CertDue}, {inventory.CertSoon}, {inventory.CertValid}} {
			for j, state := range states {
				f.Reported[i].Certificates = append(f.Reported[i].Certificates, inventory.Certificate{
					Which: []string{"agent", "memory"}[j], Serial: fmt.Sprintf("5eed%d%d", i+1, j),
					Ends: time.Date(2099, 1, 2, 3, 4, 0, 0, time.UTC), State: state,
				})
			}
		}
		f.Reported[1].Certificates[0].Problem = "no member signs it"
		f.Reported[2].Certificates[0].Ends = time.Date(2020, 1, 2, 3, 4, 0, 0, time.UTC) // silent since
	}
	return slices.Clone(f.Reported), nil
}

// RenewCertificates is as server.Certificates wants it. A host in Fails fails.
func (f *Jobs) RenewCertificates(ctx context.Context, host cluster.HostID) ([]inventory.Certificate, error) {
	hosts, err := f.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	if slices.Contains(f.Fails, host) {
		return nil, fail.Errorf(fail.Failed, "no space left on device")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range hosts {
		if hosts[i].Name == host {
			f.Reported[i].Certificates = []inventory.Certificate{{Which: "agent", Serial: "5eed9",
				Ends: time.Date(2099, 1, 2, 3, 4, 0, 0, time.UTC), State: inventory.CertValid}}
			return f.Reported[i].Certificates, nil
		}
	}
	return nil, fail.Errorf(fail.Invalid, "no host %s reports", host)
}

// SignCertificate is as server.Certificates wants it: it tells for whom it would sign.
func (f *Jobs) SignCertificate(_ context.Context, which string, request []byte, shown *x509.Certificate) ([]byte, error) {
	return fmt.Appendf(nil, "%s of %s: %s", which, shown.Subject.CommonName, request), nil
}

// SetMoved says that a guest was moved to a host, and nobody knows whether it runs.
func (f *Jobs) SetMoved(host cluster.HostID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.moved = host
}

// Lose makes a host silent.
func (f *Jobs) Lose(host cluster.HostID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.Reported {
		if f.Reported[i].Name == host {
			f.Reported[i].Up = false
		}
	}
}

// Forget removes a host that is no member. It refuses one that is up.
func (f *Jobs) Forget(ctx context.Context, _ string, host cluster.HostID, force bool) error {
	all, err := f.Hosts(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(all, func(h inventory.Summary) bool { return h.Name == host })
	switch {
	case i < 0:
		return fail.Errorf(fail.Invalid, "host %q: no host of that name reports", host)
	case i < 3:
		return fail.Errorf(fail.Refused, "host %s is in the cluster's configuration: only other hosts can be forgotten", host)
	case all[i].Up:
		return fail.Errorf(fail.Refused, "host %s reports: it was heard 2s ago", host).With("stop its agent and switch the host off first")
	}
	if f.moved == host && !force {
		return fail.Errorf(fail.Refused, "guest vm1 was moved from node1 to %s, and it is not known that it runs", host).
			With("see that it runs on one host only; then: holdfast host forget " + string(host) + " --force")
	}
	f.Reported = slices.Delete(all, i, i+1)
	return nil
}

// Drain begins a job.
func (f *Jobs) DrainHost(_ context.Context, user string, host cluster.HostID) (job.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if host == "node9" {
		return job.View{}, fail.Errorf(fail.Invalid, "host %q: no host of that name reports", host)
	}
	for _, j := range f.jobs {
		if j.State != "ended" {
			return job.View{}, fail.Errorf(fail.Refused, "%s of %s is %s: only one at a time", j.ID, j.User, j.State)
		}
	}
	j := job.View{
		ID: fmt.Sprintf("drain-%d", len(f.jobs)+1), Kind: "host", Title: "empty host " + string(host), User: "root",
		State: "active", Began: f.Now,
		Steps: []job.StepView{{ID: string(host) + "/drain", Host: host, Kind: "drain", State: "pending"}},
	}
	f.jobs = append([]job.View{j}, f.jobs...)
	return j, nil
}

// RunTransition begins a job of the steps of a file.
func (f *Jobs) RunTransition(_ context.Context, user string, file []byte) (job.View, error) {
	read, faults := transition.Parse(file)
	if len(faults) > 0 {
		return job.View{}, fail.Errorf(fail.Invalid, "%s", strictyaml.Lines("", faults))
	}
	p := transition.Build(read)
	f.mu.Lock()
	defer f.mu.Unlock()
	j := job.View{ID: fmt.Sprintf("transition-%d", len(f.jobs)+1), Kind: string(transition.Job),
		Title: "transition of " + p.Name, User: user, State: "active", Began: f.Now}
	for _, s := range p.Steps {
		j.Steps = append(j.Steps, job.StepView{ID: s.ID, Host: s.Host, Kind: transition.KindCommand, State: "pending"})
	}
	f.jobs = append([]job.View{j}, f.jobs...)
	return j, nil
}

// PlanTransition reads a file.
func (f *Jobs) PlanTransition(_ context.Context, file []byte) (transition.Preview, error) {
	return transition.Look(file, transition.Known([]cluster.HostID{"node1", "node2", "node3"})), nil
}

// Sites tells of Other.
func (f *Jobs) Sites(context.Context) (transition.Sites, error) {
	return transition.Sites{File: "/etc/holdfast/sites.yaml", Sites: f.Other}, nil
}

// StepOutput is what a step has said.
func (f *Jobs) StepOutput(ctx context.Context, id, step string) (job.Output, error) {
	j, err := f.Get(ctx, id)
	if err != nil {
		return job.Output{}, err
	}
	return outputOf(j, step)
}

// outputOf is the end of the step's log, and of a transition its parts.
func outputOf(j job.View, step string) (job.Output, error) {
	for _, s := range j.Steps {
		if s.ID == step {
			out := job.Output{Host: s.Host, Log: s.Tail, LogBytes: int64(len(s.Tail))}
			if j.Kind == string(transition.Job) {
				out.Line, out.Told = "nova.instances  41,003 rows  62 %  8,120 rows/s  4m10s left", time.Now()
				out.Parts = []job.Part{
					{Name: "nova.instances", State: "running", Done: 41_003, Total: 66_000, Unit: "rows", PerSecond: 8_120,
						Left: 250 * time.Second},
					{Name: "neutron.ports", State: "done", Done: 120_441, Total: 120_441, Unit: "rows", Differences: 2,
						Note: "<b>2 rows differ</b>"},
					{Name: "cinder.volumes", State: "waiting", Total: 9_800, Unit: "rows"},
				}
			}
			return out, nil
		}
	}
	return job.Output{}, fail.Errorf(fail.Invalid, "step %q: no step of %s", step, j.ID)
}

// CompareFiles is as server.Jobs wants it. All files have the mode 0644 and belong to root. node3
// does not answer.
func (f *Jobs) CompareFiles(_ context.Context, host cluster.HostID, files []hostconf.File, keep bool) (hostconf.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if host == "node3" {
		return hostconf.Answer{}, fail.Errorf(fail.Unavailable, "can not reach the agent of node3")
	}
	var out hostconf.Answer
	for _, x := range files {
		old, there := f.Files[string(host)+":"+x.Path]
		c := hostconf.Compared{Path: x.Path, Same: there && old == x.Content, Was: old, Old: old, After: "0644 0:0"}
		if there {
			c.Before = "0644 0:0"
		}
		if x.Secret {
			c.Old, c.Hidden = "", "secret"
		}
		if strings.HasPrefix(x.Path, "/no/") {
			c = hostconf.Compared{Path: x.Path, Problem: "the directory of " + x.Path + ": no such file or directory"}
		}
		out.Files = append(out.Files, c)
	}
	if keep {
		out.Set = "set-of-" + string(host)
	}
	return out, nil
}

// HostPorts is as server.Jobs wants it: each host has the tap of one guest on br-int. node3 does not answer.
func (f *Jobs) HostPorts(_ context.Context, host cluster.HostID, name string) (*net.Host, error) {
	if host == "node3" {
		return nil, fail.Errorf(fail.Unavailable, "can not reach the agent of node3")
	}
	n := strings.TrimPrefix(string(host), "node")
	return &net.Host{Version: net.Version, Host: cmp.Or(name, "os-"+string(host)), Links: []net.Link{},
		Guests: []string{}, Interfaces: []net.Interface{
			{Name: "tap60000000-00", Bridge: "br-int", PortID: "60000000-0000-4000-8000-00000000000" + n,
				MAC: "fa:16:3e:00:00:0" + n, AdminState: "up", LinkState: "up", OFPort: 1, Tag: 1, Flows: 2, Filters: 2},
		}}, nil
}

// WriteFiles begins a job.
func (f *Jobs) WriteFiles(_ context.Context, user string, o hostconf.Order) (job.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.Back != "" {
		old, err := f.find(o.Back)
		if err != nil {
			return job.View{}, err
		}
		for _, s := range old.Steps {
			o.Hosts = append(o.Hosts, hostconf.HostOrder{Name: s.Host})
		}
	}
	j := job.View{ID: fmt.Sprintf("config-%d", len(f.jobs)+1), Kind: string(hostconf.Job), Title: o.Title, User: user,
		State: "active", Began: f.Now}
	for _, h := range o.Hosts {
		j.Steps = append(j.Steps, job.StepView{ID: string(h.Name) + "/files", Host: h.Name, Kind: hostconf.KindFiles, State: "pending"})
	}
	f.jobs = append([]job.View{j}, f.jobs...)
	return j, nil
}

// List returns the jobs without their steps.
func (f *Jobs) List(context.Context) ([]job.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.jobs)
	for i := range out {
		out[i].Steps = nil
	}
	return out, nil
}

func (f *Jobs) find(id string) (*job.View, error) {
	for i := range f.jobs {
		if f.jobs[i].ID == id {
			return &f.jobs[i], nil
		}
	}
	return nil, fail.Errorf(fail.Invalid, "job %q: no such job", id)
}

// Get returns a job, after it has gone on a little.
func (f *Jobs) Get(_ context.Context, id string) (job.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil {
		return job.View{}, err
	}
	j.Steps = slices.Clone(j.Steps)
	s := &j.Steps[0]
	switch {
	case j.State != "active":
	case s.State == "pending":
		s.State, s.Attempt, s.Percent, s.Note = "running", s.Attempt+1, 50,
			"1 of 2 have left the host; waits: "+cmp.Or(f.Waits, "vm2: busy: snapshot")
	case j.Kind == string(transition.Job): // it goes on
	case slices.Contains(f.Fails, s.Host):
		s.State, s.Why, s.Note = "failed", "vm2 stays on "+string(s.Host)+": it can not move live", ""
		j.State, j.Result, j.Why = "ended", "failed", s.Why
	default:
		s.State, s.Percent, s.Note = "done", 100, ""
		j.State, j.Result = "ended", "done"
	}
	return *j, nil
}

// Order carries pause, resume and abort out.
func (f *Jobs) Order(_ context.Context, user, id, command, step, reason string) (job.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil {
		return job.View{}, err
	}
	switch {
	case step != "" && !slices.ContainsFunc(j.Steps, func(s job.StepView) bool { return s.ID == step }):
		return job.View{}, fail.Errorf(fail.Invalid, "%s: %s has no step %q", command, id, step)
	case j.State == "ended":
		return job.View{}, fail.Errorf(fail.Refused, "%s: %s has ended (%s)", command, id, j.Result)
	case command == "pause":
		j.State, j.Why = "paused", "paused by root"
	case command == "resume":
		j.State, j.Why = "active", ""
	case command == "abort":
		j.State, j.Result, j.Why = "ended", "aborted", "aborted by root"
	default:
		return job.View{}, fail.Errorf(fail.Refused, "%s %s (%s): the step is not stuck", command, step, reason)
	}
	return *j, nil
}
