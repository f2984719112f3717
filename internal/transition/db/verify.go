package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/readback"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
	"holdfast/internal/transition/db/verify"
)

// Verified is what a comparison found.
type Verified struct{ verify.Result }

// Verify compares the target with the source, parallel chunks of rows at a time (0: 4). The
// source must stand still. nova without Conf is not asked. The error may be *Faults.
func (x *Alignment) Verify(ctx context.Context, parallel int, nova Nova, tell Tell) (*Verified, error) {
	if err := nova.fits(x.mapping); err != nil {
		return nil, err
	}
	j, err := x.begun(ctx, false, tell.Note)
	if err != nil {
		return nil, err
	}
	if j == nil {
		tell.Note("the target has no journal of a copy: its rows are compared as they are")
	}
	plan, err := x.replan(ctx) // no rows are looked at
	if err != nil {
		return nil, err
	}
	var faults []error
	for _, f := range plan.Errors {
		faults = append(faults, errors.New(f.Line()))
	}
	if len(faults) > 0 {
		return nil, &Faults{"plan", errors.Join(faults...)}
	}
	// The locks keep a run out, whose rows would come in between, and other copies' IDs.
	ctx, unlock, err := x.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := x.copied(ctx); err != nil {
		return nil, err
	}
	if nova.Conf != "" {
		if err := nova.leads(ctx, x, plan); err != nil {
			return nil, err
		}
	}
	r, err := verify.Run(ctx, x.mapping, plan, x.source, x.target, x.targetSide, verify.Options{
		Parallel: parallel, Progress: func(p verify.Progress) { tell.Progress(Progress{Compare: &p}) },
	})
	if err == nil && nova.Conf != "" {
		tell.Progress(Progress{Step: "Nova's own code reads guests"})
		var c verify.CheckResult
		c, err = nova.read(ctx, x, plan)
		r.Checks, r.Equal = append(r.Checks, c), r.Equal && c.Holds
	}
	if err != nil {
		return nil, err
	}
	return &Verified{*r}, nil
}

// copied looks whether there is a whole copy to be compared, and stages the IDs.
func (x *Alignment) copied(ctx context.Context) error {
	j, err := x.begun(ctx, false, func(string) {}) // it was said
	if err != nil {
		return err
	}
	switch {
	case j != nil && j.Follows && j.State != copier.Done:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not had its cut-over: what was written since is not in the target", j.Begun.Format(time.RFC3339)).With("go on with it: holdfast transition db run --follow")
	case j != nil && j.State == copier.Copying:
		return fail.Errorf(fail.Refused, "the copy that began at %s has not ended", j.Begun.Format(time.RFC3339)).With("go on with it: holdfast transition db run")
	}
	return x.stage(ctx)
}

// Sampled is how many guests Nova's own code reads. It takes some seconds; a fault of the
// mapping shows in most guests, and one of a row in what the checks ask of all.
const Sampled = 200

// Nova is where Nova's own code is; without Conf it is not asked.
type Nova struct {
	Conf   string // a file with its settings, and the new databases' addresses
	Python string // that has the code
}

// fits looks whether the mapping has what is to be read.
func (n Nova) fits(m *mapping.Mapping) error {
	if n.Conf == "" || slices.ContainsFunc(m.Tables, func(t mapping.Table) bool { return t.Target == novaGuests }) {
		return nil
	}
	return fail.Errorf(fail.Invalid, "--nova-conf: the mapping has no table %s", novaGuests)
}

// novaGuests is the table of Nova's guests, in which deleted is 0 for those that are there.
const novaGuests = "nova.instances"

func (n Nova) reader(x *Alignment) readback.Nova {
	return readback.Nova{Python: n.Python, Conf: n.Conf, Without: x.skip}
}

// leads looks, before the comparison takes its time, whether Nova's own code is there, and
// reads what is to be verified and nothing else.
func (n Nova) leads(ctx context.Context, x *Alignment, p *mapping.Plan) error {
	var want []string
	for i := range p.Tables {
		if t := &p.Tables[i]; strings.HasPrefix(t.Target, "nova.") || strings.HasPrefix(t.Target, "nova_api.") {
			db, _ := t.OnTarget()
			want = append(want, db)
		}
	}
	r, err := n.reader(x).Read(ctx)
	if err != nil {
		return err
	}
	for _, s := range r.Servers {
		if s != x.target.Name() {
			return fail.Errorf(fail.Refused, "--nova-conf %s leads to the server %s, and the target is %s", n.Conf, s, x.target.Name()).With("the addresses of that one (of a cluster: of the same node), also in the table cell_mappings")
		}
	}
	for _, db := range want {
		if slices.Contains(r.Databases, db) {
			continue
		}
		if len(r.Faults) > 0 {
			return fail.Errorf(fail.Failed, "--nova-conf %s: Nova's own code reads no database %s: %s", n.Conf, db, strings.Join(r.Faults[:min(len(r.Faults), 3)], "; "))
		}
		return fail.Errorf(fail.Refused, "--nova-conf %s leads to the databases %s, and the target's are %s", n.Conf, strings.Join(r.Databases, ", "), strings.Join(slices.Compact(slices.Sorted(slices.Values(want))), ", ")).With("their addresses, also in the table cell_mappings")
	}
	return nil
}

// read has Nova's own code read some of the target's guests, the same ones each time.
func (n Nova) read(ctx context.Context, x *Alignment, p *mapping.Plan) (is verify.CheckResult, err error) {
	i := slices.IndexFunc(p.Tables, func(t mapping.Planned) bool { return t.Target == novaGuests })
	db, table := p.Tables[i].OnTarget()
	var guests []string
	err = server.Walk(ctx, x.target.DB, fmt.Sprintf("SELECT uuid FROM %s.%s WHERE deleted = 0 ORDER BY MD5(uuid) LIMIT %d", sqlexpr.Quote(db), sqlexpr.Quote(table), Sampled), func(row []sql.RawBytes) error {
		guests = append(guests, string(row[0]))
		return nil
	})
	if err != nil {
		return is, fmt.Errorf("target: guests of table %s: %w", novaGuests, err)
	}
	is.Name = fmt.Sprintf("Nova's own code reads %d guests", len(guests))
	r, err := n.reader(x).Read(ctx, guests...)
	switch {
	case ctx.Err() != nil:
		return is, err
	case err != nil: // the comparison is not lost for it
		is.Error = err.Error()
		return is, nil
	}
	is.Broken, is.Holds = int64(len(r.Faults)), len(r.Faults) == 0
	if more := len(r.Faults) - shownFaults; more > 0 {
		r.Faults = append(r.Faults[:shownFaults], fmt.Sprintf("and %d more", more))
	}
	is.Error = strings.Join(r.Faults, "; ")
	return is, nil
}

// shownFaults is how many of Nova's faults are told.
const shownFaults = 20
