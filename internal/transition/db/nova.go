package db

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/readback"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
	"holdfast/internal/transition/db/verify"
)

// This file lets the new platform's own code read guests when a copy is verified.

// Sampled is how many guests Nova's own code reads, unless it is to read all. It takes some
// seconds; a fault of the mapping shows in most guests, and one of a row in what the checks
// ask of all.
const Sampled = 200

// novaPage is how many guests a process with Nova's own code reads, before the next one
// does: it keeps what it has read.
const novaPage = 500

// Nova is where Nova's own code is; without Conf it is not asked.
type Nova struct {
	Conf   string // a file with its settings, and the new databases' addresses
	Python string // that has the code
	All    bool   // it reads all guests that are there
}

// fits looks whether the mapping has what is to be read.
func (n Nova) fits(m *mapping.Mapping) error {
	if n.Conf == "" || slices.ContainsFunc(m.Tables, func(t mapping.Table) bool { return t.Target == novaGuests }) {
		return nil
	}
	return fail.Errorf(fail.Invalid, "--nova-conf: the mapping has no table %s, whose guests Nova's own code would read",
		novaGuests).With("leave --nova-conf out")
}

// novaGuests is the table of Nova's guests, in which deleted is 0 for those that are there.
const novaGuests = "nova.instances"

func (n Nova) reader(x *Alignment) readback.Nova {
	return readback.Nova{Python: n.Python, Conf: n.Conf, Without: x.skip}
}

// leads looks, before the comparison takes its time, whether Nova's own code is there, and
// reads what is to be verified and nothing else. It gives the faults of what all guests need.
func (n Nova) leads(ctx context.Context, x *Alignment, p *mapping.Plan) (faults []string, err error) {
	var want []string
	for i := range p.Tables {
		if t := &p.Tables[i]; strings.HasPrefix(t.Target, "nova.") || strings.HasPrefix(t.Target, "nova_api.") {
			db, _ := t.OnTarget()
			want = append(want, db)
		}
	}
	r, err := n.reader(x).Read(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range r.Servers {
		if s != x.target.Name() {
			return nil, fail.Errorf(fail.Refused, "--nova-conf %s leads to the server %s, and the target is %s", n.Conf,
				s, x.target.Name()).With("write the target's address (of a cluster: that of the same node) into that " +
				"file, and into the table cell_mappings")
		}
	}
	for _, db := range want {
		if slices.Contains(r.Databases, db) {
			continue
		}
		if len(r.Faults) > 0 {
			return nil, fail.Errorf(fail.Failed, "--nova-conf %s: Nova's own code reads no database %s: %s", n.Conf, db,
				strings.Join(r.Faults[:min(len(r.Faults), 3)], "; "))
		}
		return nil, fail.Errorf(fail.Refused, "--nova-conf %s leads to the databases %s, and the target's are %s",
			n.Conf, strings.Join(r.Databases, ", "), strings.Join(slices.Compact(slices.Sorted(slices.Values(want))),
				", ")).With("write the addresses of the target's databases into that file, and into the table cell_mappings")
	}
	return r.Faults, nil
}

// read has Nova's own code read the target's guests, all or some, the same ones each time.
// ofAll are faults that were found before, and are found with every guest again.
func (n Nova) read(ctx context.Context, x *Alignment, p *mapping.Plan, ofAll []string, tell Tell) (is verify.CheckResult, err error) {
	i := slices.IndexFunc(p.Tables, func(t mapping.Planned) bool { return t.Target == novaGuests })
	db, table := p.Tables[i].OnTarget()
	from := "SELECT uuid, id FROM " + sqlexpr.Quote(db) + "." + sqlexpr.Quote(table) + " WHERE deleted = 0"
	page := func(query string) (guests []string, last string, err error) {
		err = server.Walk(ctx, x.target.DB, query, func(row []sql.RawBytes) error {
			guests, last = append(guests, string(row[0])), string(row[1])
			return nil
		})
		if err != nil {
			err = fmt.Errorf("target: guests of table %s: %w", novaGuests, err)
		}
		return guests, last, err
	}
	found := slices.Clone(ofAll[:min(len(ofAll), shownFaults)])
	is.Table, is.Broken = novaGuests, int64(len(ofAll))
	for read, last := 0, "0"; ; {
		query := fmt.Sprintf("%s ORDER BY MD5(uuid) LIMIT %d", from, Sampled)
		if n.All {
			query = fmt.Sprintf("%s AND id > %s ORDER BY id LIMIT %d", from, last, novaPage)
		}
		var guests []string
		if guests, last, err = page(query); err != nil {
			return is, err
		}
		tell.Progress(Progress{Step: fmt.Sprintf("Nova's own code reads guests, %d so far", read)})
		is.Name = fmt.Sprintf("Nova's own code reads %d guests", read+len(guests))
		if len(guests) == 0 {
			break
		}
		r, err := n.reader(x).Read(ctx, guests...)
		switch {
		case ctx.Err() != nil:
			return is, err
		case err != nil: // the comparison is not lost for it
			is.Error = err.Error()
			return is, nil
		}
		for _, f := range r.Faults {
			if slices.Contains(ofAll, f) {
				continue
			}
			if is.Broken++; len(found) < shownFaults {
				found = append(found, f)
			}
		}
		if read += len(guests); !n.All {
			break
		}
	}
	for _, f := range found {
		if where, _, _ := strings.Cut(f, ": "); !slices.Contains(is.Keys, where) {
			is.Columns, is.Keys = []string{"where"}, append(is.Keys, where)
		}
	}
	if more := is.Broken - int64(len(found)); more > 0 {
		found = append(found, fmt.Sprintf("and %d more", more))
	}
	is.Holds, is.Error = is.Broken == 0, strings.Join(found, "; ")
	return is, nil
}

// shownFaults is how many of Nova's faults are told.
const shownFaults = 20
