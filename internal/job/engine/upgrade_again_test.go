package engine

import "holdfast/internal/upgrade"

// An upgrade that was aborted goes on by a second run.

// planAgain plans a second run on what is left.
func (b broken) planAgain(p *plant, id string, o upgrade.Options) (upgrade.Plan, error) {
	o.Run = id
	if b.status.Cluster == upgrade.Normal { // nothing was changed, and the upgrade begins anew
		return upgrade.Build(*p.manifest, p.inventory(), o)
	}
	return upgrade.BuildAgain(*p.manifest, upgrade.Earlier{Plan: *b.plan, Records: b.recs, Status: b.status}, p.inventory(), o)
}

// joined is what both runs have left, but for the platform.
func (b broken) joined(plan *upgrade.Plan, j Journal, st upgrade.Status, stops func(*plantGuest) int) broken {
	both := broken{plan: plan, recs: j.Records, status: st}
	if b.status.Cluster != upgrade.Normal {
		joined, recs := upgrade.Join(*b.plan, b.recs, *plan, j.Records)
		both.plan, both.recs = &joined, recs
	}
	if j.Job.Result == "aborted" {
		stops = onceMore(stops)
	}
	both.stops = func(g *plantGuest) int { return b.stops(g) + stops(g) }
	return both
}

// again begins a second run and waits for its end. It returns what both have left.
func (w *upWorld) again(id string, b broken, o upgrade.Options) (both broken, j Journal) {
	plan, err := b.planAgain(w.plant, id, o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.begin(id, &plan)
	j, unknown := w.watch(id)
	both = b.joined(&plan, j, w.status(j), planned(w.t, &plan))
	if j.Job.Result == "aborted" {
		complain(w.t, w, "the aborted second run", aborted(w, j), w.plant.look("", both.status.Mixed), w.plant.stops(both.stops))
		return both, j
	}
	complain(w.t, w, "the second run", finished(w, j, unknown, upgrade.Prepared, upgrade.HostRollupDone),
		w.plant.look(plantNew, nil), w.plant.stops(both.stops))
	return both, j
}
