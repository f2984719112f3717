package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/catalogue"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/path"
	"holdfast/internal/upgrade/request"
	"holdfast/internal/upgrade/survey"
)

// planned is a plan with what it was made of.
type planned struct {
	plan     upgrade.Plan
	manifest *manifest.Manifest
	inv      inventory.Inventory
	told     []upgrade.Finding // about what people said of the platform
	state    State
	last     cluster.HostID // the coordinator's host
	journal  journal        // of the upgrade that is rolled back, committed, or gone on with
	again    bool           // it is gone on with
	agents   map[cluster.HostID]job.HostState
	versions map[cluster.HostID]*fact.Facts // of a rollback, where only hosts tell what is installed
	paths    *path.Catalogue                // of versions; nil: there is none
}

// PlanUpgrade plans with what the hosts report now, and begins nothing.
func (s *Service) PlanUpgrade(ctx context.Context, r request.Request) (upgrade.Plan, error) {
	p, err := s.gather(ctx, &r)
	if err == nil && r.Options.Probe && (r.Purpose == "" || r.Purpose == upgrade.ForUpgrade) { // the plan names guests that can not be watched
		_, _, err = s.look(ctx, p, r, check.Before)
	}
	if err != nil {
		return upgrade.Plan{}, err
	}
	if err = p.build(r, ""); err != nil {
		return p.plan, err
	}
	// What RunUpgrade refuses stands in the plan's way.
	err = s.free(ctx, p, cmp.Or(r.Purpose, upgrade.ForUpgrade))
	var e *fail.Error
	if errors.As(err, &e) && e.Kind == fail.Refused {
		p.plan.Findings = slices.Insert(p.plan.Findings, 0,
			upgrade.Finding{Rule: "not-over", Level: upgrade.Block, Text: e.Message, Remedy: e.Remedy})
		err = nil
	}
	return p.plan, err
}

// RunUpgrade begins an upgrade, a rollback or a commit. Nothing is begun when the
// plan is blocked or a check fails that nobody has confirmed: the answer has no
// job then.
func (s *Service) RunUpgrade(ctx context.Context, user string, r request.Request) (request.Begun, error) {
	if r.Purpose == "" {
		r.Purpose = upgrade.ForUpgrade
	}
	p, err := s.gather(ctx, &r)
	if err != nil {
		return request.Begun{}, err
	}
	if err := s.free(ctx, p, r.Purpose); err != nil {
		return request.Begun{}, err
	}
	if done, j := p.committed(r.Purpose); done {
		return request.Begun{Job: &j}, nil // asked once more
	}
	now := time.Now().UTC()
	id := engine.NewID(string(r.Purpose), now)
	var out request.Begun
	if r.Purpose == upgrade.ForUpgrade {
		rep, stands, err := s.judge(ctx, p, r, id)
		out.Report, out.Plan = &rep, p.plan
		if err != nil || len(stands) > 0 {
			return out, err
		}
	} else {
		err := p.build(r, id)
		out.Plan = p.plan
		if err != nil || p.plan.Blocked() {
			return out, err
		}
	}
	j, err := s.submit(ctx, p, r, job.Job{ID: id, Kind: job.Upgrade, User: user, Began: now, Title: title(&p.plan)})
	out.Job = &j
	return out, err
}

// committed reports whether a commit is asked for that was done already, by which
// job.
func (p *planned) committed(purpose upgrade.Purpose) (bool, job.View) {
	last := p.journal.last
	done := purpose == upgrade.ForCommit && p.state.Committed && last.Result == "done" && p.state.Last != p.state.Run
	return done, engine.Shown(last)
}

// title says in a line what a plan does.
func title(p *upgrade.Plan) string {
	if p.Purpose == upgrade.ForCommit {
		return fmt.Sprintf("commit %s %s", p.Bundle, p.To)
	}
	text := fmt.Sprintf("%s of %s from %s to %s (%s)", p.Purpose, p.Bundle, p.From, p.To, p.Options.Mode)
	if n := len(p.Earlier); n > 0 && p.Purpose == upgrade.ForUpgrade {
		text += ", goes on after " + p.Earlier[n-1]
	}
	return text
}

// gather collects what a plan is made of. The request gets the mode when it has none: that
// of the run that it goes on with, else the bundle's.
func (s *Service) gather(ctx context.Context, r *request.Request) (*planned, error) {
	st, err := loadState(ctx, s.Store)
	if err != nil {
		return nil, err
	}
	p := &planned{state: st, last: s.Cluster.Status().Coordinator}
	sha := r.Bundle
	switch r.Purpose {
	case upgrade.ForRollback, upgrade.ForCommit:
		if st.Run == "" {
			return nil, fail.Errorf(fail.Refused, "%s: there was no upgrade of this cluster", r.Purpose)
		}
		sha = ""
		if p.journal, err = s.wholeJournal(ctx, st); err != nil {
			return nil, err
		}
		if now := p.journal.status; r.Purpose == upgrade.ForCommit && p.journal.latest().State == job.Ended &&
			now.Cluster == upgrade.Normal && !now.Committed && !st.Committed {
			return nil, fail.Errorf(fail.Refused, "the cluster is normal: there is nothing to commit").With("see: holdfast upgrade status")
		}
		if p.manifest, err = s.manifestFor(ctx, r.Purpose, p.journal, st); err != nil {
			return nil, err
		}
	case upgrade.ForUpgrade, "":
		if err := s.goesOn(ctx, p, sha); err != nil {
			return nil, err
		}
	default:
		return nil, fail.Errorf(fail.Invalid, "purpose %.40q: want upgrade, rollback or commit", r.Purpose)
	}
	if sha != "" {
		if p.manifest, err = s.manifest(ctx, sha); err != nil {
			return nil, err
		}
	}
	name, installed := "", r.Version
	if p.manifest != nil {
		name, installed = p.manifest.Name, cmp.Or(st.Versions[p.manifest.Name], installed)
	}
	s.freshen(ctx)
	if p.inv, p.told, err = s.inventory(ctx, st, r.Inventory, r.Options.MigrationNetwork, name, installed); err == nil {
		err = s.remember(ctx, st, &p.inv)
	}
	if p.manifest != nil && err == nil {
		if dir := p.manifest.Engine(); dir != "" && sha != "" {
			err = s.askEngines(ctx, &p.inv, dir)
		}
		p.inv = upgrade.Installed(p.manifest, p.inv)
	}
	seen, _ := s.Seen()
	p.agents = report.Hosts(seen, time.Now())
	if err == nil && sha != "" && p.inv.Version == "" {
		err = fail.Errorf(fail.Invalid, "version: the cluster was never upgraded, so it does not know which version "+
			"of %s is installed", p.manifest.Name).
			With("say which version is installed: --version V")
	}
	if err == nil && sha != "" {
		if p.again {
			r.Options.Mode = cmp.Or(r.Options.Mode, p.journal.plan.Options.Mode)
		}
		r.Options.Mode = cmp.Or(r.Options.Mode, p.manifest.DefaultMode())
		err = p.sensible(*r)
	}
	if err == nil && sha != "" {
		if p.paths, err = s.cache.Catalogue(ctx, sha); err != nil {
			return nil, fail.Errorf(fail.Invalid, "bundle %.64s: %w", sha, err)
		}
		p.paths = cmp.Or(p.paths, catalogue.For(p.manifest.Version))
	}
	if err == nil && (r.Purpose == upgrade.ForUpgrade || r.Purpose == "") {
		if err = upgrade.CheckConfirmed(r.Options.Confirmed, p.manifest, &p.inv, p.paths, check.IDs()); err != nil {
			err = fail.Errorf(fail.Invalid, "%w", err)
		}
	}
	if err == nil && p.manifest != nil && p.manifest.AllHosts() != nil {
		err = s.askAllHosts(ctx, p, r.Purpose)
	}
	return p, err
}

// sensible refuses a request that makes no sense, before any host is asked.
func (p *planned) sensible(r request.Request) error {
	err := r.Options.Check(p.manifest, &p.inv)
	if err == nil && r.Version != "" {
		err = upgrade.CheckVersion(p.manifest, "--version", r.Version)
	}
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	return nil
}

// manifestFor is the manifest for what follows an upgrade. It is gone from the
// hosts when nothing but a part of the cleanup is left of the commit; then, and for
// a rollback that is refused anyway, its name is enough.
func (s *Service) manifestFor(ctx context.Context, purpose upgrade.Purpose, j journal, st State) (*manifest.Manifest, error) {
	m, err := s.manifest(ctx, st.Bundle.SHA256)
	if err != nil && st.Committed && (purpose == upgrade.ForRollback || j.cleaning) {
		return nameOnly(st), nil
	}
	return m, err
}

func nameOnly(st State) *manifest.Manifest {
	return &manifest.Manifest{Name: st.Bundle.Name, Version: st.Bundle.Version}
}

// manifest reads the manifest of a bundle, which is brought here if it must be.
func (s *Service) manifest(ctx context.Context, sha string) (*manifest.Manifest, error) {
	if err := s.bring(ctx, sha); err != nil {
		return nil, fail.Errorf(fail.Failed, "bundle %.64s: %w", sha, err).With("bring it again: holdfast upgrade check --bundle FILE")
	}
	m, err := s.cache.Manifest(ctx, sha)
	if err != nil {
		return nil, fail.Errorf(fail.Failed, "bundle %.64s: %w", sha, err)
	}
	return m, nil
}

// inventory is what the hosts report, with what only people know: what is said
// now, or was said last. Of what was said last, hosts that report no more are left
// out; the findings name them, and say where hosts report something else than was said.
func (s *Service) inventory(ctx context.Context, st State, said *inventory.Inventory,
	network, bundle, version string) (inv inventory.Inventory, told []upgrade.Finding, err error) {
	seen, ok := s.sighted(ctx)
	if !ok {
		return inv, nil, fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	return s.inventoryOf(ctx, st, seen, said, network, bundle, version)
}

// inventoryOf is the inventory of what was reported.
func (s *Service) inventoryOf(ctx context.Context, st State, seen map[cluster.HostID]report.Seen, said *inventory.Inventory,
	network, bundle, version string) (inv inventory.Inventory, told []upgrade.Finding, err error) {
	inv = report.Inventory(s.Name, version, network, seen, time.Now())
	s.members.markIn(&inv)
	remedy, now := "", said != nil
	if said == nil {
		last, err := platform(ctx, s.Store, bundle)
		if err != nil {
			return inv, nil, err
		}
		if last == nil {
			last = &inventory.Inventory{}
		}
		left, gone := upgrade.LeaveGone(inv, *last)
		said, told, remedy = &left, gone, "the platform file that was given last says so: give a corrected one, --platform FILE"
	}
	told = append(told, upgrade.OverlayFindings(inv, *said)...)
	if inv, err = upgrade.Overlay(inv, *said); err != nil {
		return inv, nil, fail.Errorf(fail.Invalid, "%w", err).With(remedy)
	}
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if b, behind := st.Behind[bundle][h.Name]; behind && !(now && h.Version != "") { // or somebody says what it has
			h.Version, h.Unread = b.Version, true
		}
	}
	return inv, told, nil
}

// sightWithin is how long a host may take to list its guests again: libvirtd is up
// some seconds after the agent when a host was rebooted.
const sightWithin = 15 * time.Second

// sighted are the hosts' records, after a while if a host that is up can not list its
// guests just now.
func (s *Service) sighted(ctx context.Context) (map[cluster.HostID]report.Seen, bool) {
	return s.awaitReports(ctx, func(_ *cluster.Status, r report.Record) bool { return r.Unobservable })
}

// free refuses to begin beside an upgrade that is not over.
func (s *Service) free(ctx context.Context, p *planned, purpose upgrade.Purpose) error {
	st := p.state
	if st.Last == "" {
		return nil
	}
	last, err := readJournal(ctx, s.Store, st.Last)
	if err != nil {
		return err
	}
	j := last.Job
	if j.State != job.Ended {
		return fail.Errorf(fail.Refused, "%s (%s), begun by %s at %s, is %s: only one upgrade at a time", j.ID, j.Title,
			j.User, j.Began.UTC().Format(time.RFC3339), j.State).
			With("see: holdfast upgrade status")
	}
	if purpose == upgrade.ForUpgrade && last.status.Cluster != upgrade.Normal && !p.again {
		return notOver(st, &last)
	}
	return nil
}

// build makes the plan.
func (p *planned) build(r request.Request, id string) (err error) {
	for _, h := range slices.Concat(r.Hosts, r.Lost) {
		reports := slices.ContainsFunc(p.inv.Hosts, func(x inventory.Host) bool { return x.Name == h })
		if err := hostOf(&p.journal.plan, h); err != nil && !reports {
			return err
		}
	}
	switch r.Purpose {
	case upgrade.ForRollback:
		if !p.journal.switchesHA() {
			p.inv.HA = nil // it was off before the upgrade, which has not touched it
		}
		receipts := map[string]string{}
		for step, rec := range p.journal.Records {
			if rec.State == job.Done {
				receipts[step] = "" // each host verifies its own before anything is changed
			}
		}
		p.plan, err = upgrade.PlanRollback(*p.manifest, p.journal.plan, p.journal.Records, p.journal.status, p.inv,
			upgrade.RollbackFacts{Only: r.Hosts, Receipts: receipts, Last: p.last, Lost: r.Lost, Told: p.versions})
	case upgrade.ForCommit:
		p.plan, err = upgrade.PlanCommit(*p.manifest, p.journal.plan, p.journal.status, p.inv, p.journal.over, r.Lost)
	default:
		if p.manifest == nil {
			return fail.Errorf(fail.Invalid, "bundle: want the SHA-256 of a bundle that was brought to this host")
		}
		o := r.Options
		o.Run, o.SHA256 = id, r.Bundle
		if o.Last == "" {
			o.Last = p.last
		}
		if !p.again {
			p.plan, err = upgrade.Build(*p.manifest, p.inv, o)
			break
		}
		p.plan, err = upgrade.BuildAgain(*p.manifest, upgrade.Earlier{Plan: p.journal.plan, Records: p.journal.Records,
			Status: p.journal.status}, p.inv, o)
	}
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	p.plan.Findings = slices.Concat(p.plan.Findings, p.told, p.apart(), upgrade.PathFindings(p.paths, &p.plan, p.inv.Components))
	return nil
}

// look asks all hosts.
func (s *Service) look(ctx context.Context, p *planned, r request.Request, when check.When) (check.Input, check.Report, error) {
	in, err := s.survey.Look(ctx, survey.Question{
		When: when, SHA256: r.Bundle, Manifest: p.manifest, Inventory: &p.inv, Mode: r.Options.Mode, Stay: r.Options.KeepGuests,
		Policy: r.Options.DefaultPolicy, Policies: r.Options.Policies, Confirmed: r.Options.Confirmed, Left: r.Options.Drop,
		Guests: r.Options.Probe, Pin: r.Options.Pin,
	})
	if err != nil {
		return in, check.Report{}, err
	}
	p.reach(in.Facts)
	rep := survey.Report(in, s.Host)
	if r.Bundle != "" {
		b, err := s.cache.Get(r.Bundle)
		if err != nil {
			return in, rep, err
		}
		rep.Unsigned = !b.Signed
	}
	return in, rep, nil
}

// reach adds to guests the addresses that their hosts have told. Those that people have said
// come first.
func (p *planned) reach(told map[cluster.HostID]*fact.Facts) {
	at := map[string][]string{}
	for _, f := range told {
		for _, g := range f.Guests {
			at[g.UUID] = g.Addresses
		}
	}
	for i := range p.inv.VMs {
		v := &p.inv.VMs[i]
		v.Addresses = slices.Concat(v.Addresses, at[v.UUID])
	}
}

// submit begins the job.
func (s *Service) submit(ctx context.Context, p *planned, r request.Request, j job.Job) (job.View, error) {
	j.State, j.Changed = job.Active, j.Began
	text, err := p.plan.Encode()
	if err != nil {
		return job.View{}, err
	}
	next := p.state
	next.Last = j.ID
	if r.Purpose == upgrade.ForUpgrade {
		b, err := s.cache.Get(r.Bundle)
		if err != nil {
			return job.View{}, err
		}
		next = State{
			Versions: p.state.Versions, Behind: p.state.Behind, To: p.plan.To, Run: j.ID, Earlier: p.plan.Earlier, Last: j.ID, Bundle: told(b),
			Probe: r.Options.Probe, Network: r.Options.MigrationNetwork, mod: next.mod,
		}
		next = next.with(p.manifest.Name, p.inv.Version)
	}
	op, err := next.op()
	if err != nil {
		return job.View{}, err
	}
	var apart []byte // none: the key is removed
	if groups := upgrade.Apart(&p.inv, &p.plan.Options); len(groups) > 0 {
		if apart, err = json.Marshal(groups); err != nil {
			return job.View{}, fmt.Errorf("write which guests are kept apart: %w", err)
		}
	}
	also := engine.Also{Alone: []job.Kind{evacuate.HostJob}, Conds: []store.Cmp{p.state.guard()},
		Ops: []store.Op{op, {Key: evacuate.KeyApart, Value: apart}}}
	if r.Inventory != nil {
		said, err := json.Marshal(r.Inventory)
		if err != nil {
			return job.View{}, fmt.Errorf("write the platform file into the store: %w", err)
		}
		if len(said) > maxPlatform {
			return job.View{}, fail.Errorf(fail.Invalid, "the platform file has %d bytes: at most %d are possible", len(said), maxPlatform)
		}
		also.Ops = append(also.Ops, store.Op{Key: keyPlatform + p.manifest.Name, Value: said})
	}
	if err := engine.Submit(ctx, s.Store, j, text, p.plan.Steps(), also); err != nil {
		return job.View{}, engine.Explain(err)
	}
	return engine.Shown(j), nil
}

// hostOf wants the name of a host of the run.
func hostOf(p *upgrade.Plan, h cluster.HostID) error {
	if slices.ContainsFunc(p.Hosts, func(x upgrade.PlannedHost) bool { return x.Name == h }) {
		return nil
	}
	return fail.Errorf(fail.Invalid, "host %q: the run has no such host", h).With("see: holdfast upgrade status")
}

// AdmitHost approves a host of the run, or drops one that is away.
func (s *Service) AdmitHost(ctx context.Context, user string, host cluster.HostID, drop bool) error {
	st, err := loadState(ctx, s.Store)
	if err != nil {
		return err
	}
	if st.Last == "" {
		return fail.Errorf(fail.Refused, "there was no upgrade of this cluster")
	}
	last, err := readJournal(ctx, s.Store, st.Last)
	if err != nil {
		return err
	}
	if err := hostOf(&last.plan, host); err != nil {
		return err
	}
	seen, ok := s.Seen()
	states := report.Hosts(seen, time.Now())
	if !ok || !states[s.Host].Up { // then others may only seem to be away
		return fmt.Errorf("the hosts' reports are not read just now: %w", store.ErrRetry)
	}
	up := seen[host].UpFor(time.Now())
	_, err = engine.Amend(ctx, s.Store, st.Last, time.Now().UTC(), func(j job.Job) (job.Job, error) {
		if drop {
			return upgrade.Drop(&last.plan, j, host, up, user)
		}
		return upgrade.Approve(&last.plan, j, host, user)
	})
	if err != nil {
		return engine.Explain(err)
	}
	return nil
}
