// Package rebuild is the sequence that brings the network of an old platform into a new one:
// it reads a document, looks at the target, writes the rows that the API can not, creates
// what is missing, and reads everything back.
// See docs/adr/0058.
//
// It keeps no journal. Each object has an ID that is known before, is asked for before it is
// created, and is created whole by one request in one transaction of Neutron; so what is
// there says how far an earlier run has come.
package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
	"holdfast/internal/transition/net/rows"
)

// extension is the alias of packaging/neutron/holdfast_client_ids.py.
const extension = "holdfast-client-ids"

// largest is how long a document may be: some 500,000 ports.
const largest = 512 << 20

// MostJobs is how many requests may be under way at once.
const MostJobs = 64

// beat is how often the heartbeats of agents are set anew while ports are created. Neutron takes
// an agent for dead after 75 s (agent_down_time).
const beat = 20 * time.Second

// Progress is how far a step is.
type Progress struct {
	Step        string
	Done, Whole int
}

// Database is where Neutron's own database is.
type Database struct {
	DSN, Name string
	Password  func(prompt string) (string, error) // asks a person; nil: nobody
}

// Order is what Apply is asked for.
type Order struct {
	API         API
	DB          Database
	Jobs        int // requests that are under way at once, 1 to MostJobs
	DryRun      bool
	ReserveDHCP bool // ports of DHCP are made as net.ReserveDHCP has them, which changes the document

	// Applied is a file that keeps what was applied; "": none does. What it has, and the platform has as it has it, is
	// removed or changed where the document has it otherwise.
	Applied string

	LeaveOut []string // names of what may be left out, as net.LeftOut has them
}

// Report is what Apply did, or with DryRun would do.
type Report struct {
	DryRun bool `json:"dry_run"`
	// Unproven: with DryRun, it is not known yet whether the database is the one behind the API, as neither has anything.
	Unproven bool           `json:"unproven"`
	Equal    int            `json:"equal"`   // objects that were there before
	Created  map[string]int `json:"created"` // by kind
	Removed  map[string]int `json:"removed"` // by kind: what was applied before, and is in the document no more
	Renewed  map[string]int `json:"renewed"` // by kind: what was applied before, and is otherwise in the document
	Bound    int            `json:"bound"`   // ports that were there, and not bound to their hosts yet
	// ports whose ovs_hybrid_plug is another than Neutron made; with DryRun: of those that were there
	Plugs   int               `json:"plugs"`
	Unbound []string          `json:"unbound"`  // IDs of ports that are made without their host: nothing there binds ports
	LeftOut []net.LeftOutKind `json:"left_out"` // what is not carried over
	Seconds float64           `json:"seconds"`
}

// Read reads a document's file. Bad input is of type *net.Faults, or of kind fail.Invalid.
func Read(path string) (*net.Document, error) {
	text, err := slurp(path)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read the document: %w", err)
	}
	return net.Parse(path, text)
}

func slurp(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, largest+1))
	if err = errors.Join(err, f.Close()); err == nil && len(text) > largest {
		err = fmt.Errorf("%s: more than %d bytes", path, largest)
	}
	return text, err
}

// Export reads the platform at an API into a file, and returns what it has read. A document
// that Apply would refuse is not written; then the error is of type *net.Faults. leaveOut are names of attributes that may
// be left out.
func Export(ctx context.Context, at API, out string, leaveOut []string) (*net.Document, error) {
	c, err := at.client(ctx)
	if err != nil {
		return nil, err
	}
	d, err := c.Read(ctx, nil)
	if err != nil {
		return nil, err
	}
	return d, save(d, out, leaveOut)
}

// ExportRows is Export by Neutron's database, for a platform whose API is gone.
func ExportRows(ctx context.Context, from Database, out string, leaveOut []string) (d *net.Document, err error) {
	db, err := rows.Open(ctx, "source", from.DSN, from.Name, from.Password)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if d, err = db.Read(ctx); err != nil {
		return nil, err
	}
	return d, save(d, out, leaveOut)
}

func save(d *net.Document, out string, leaveOut []string) error {
	var all net.Faults
	for _, err := range []error{d.Check(out), d.CheckAttributes(out, leaveOut), UnknownNames(d, leaveOut)} {
		var faults *net.Faults
		if err != nil && !errors.As(err, &faults) {
			return err
		}
		if faults != nil {
			all.Lines = append(all.Lines, faults.Lines...)
		}
	}
	if len(all.Lines) > 0 {
		return &all
	}
	return written(d, out)
}

// UnknownNames refuses names of what may be left out that there are not.
func UnknownNames(d *net.Document, leaveOut []string) error { return d.UnknownNames(leaveOut, Kinds()) }

// Kinds are those of whole objects that are not carried over, as far as they are known.
func Kinds() []string { return slices.Concat(neutron.NotCarried(), rows.NotCarried()) }

// Save writes a document's file. The error is of type *net.Faults where Apply would refuse it; then nothing is written.
func Save(d *net.Document, out string) error {
	if err := d.Check(out); err != nil {
		return err
	}
	return written(d, out)
}

func written(d *net.Document, out string) error {
	if err := dump(d, out); err != nil {
		return fmt.Errorf("write the document: %w", err)
	}
	return nil
}

// Verified is what Verify found. What the document or the platform has beside what is compared is left out.
type Verified struct {
	Differences []net.Difference
	Unbound     []string          // as in Report
	LeftOut     []net.LeftOutKind // of the document
	Beside      []net.LeftOutKind // of the platform
}

// Verify compares a document with the platform at an API, both ways. reserve: ports of DHCP wait for an agent there, or
// have been taken by one, as of net.ReserveDHCP, which changes the document. tell hears how much of each of net.Kinds is read:
// Done is of the platform, Whole of the document.
func Verify(ctx context.Context, d *net.Document, at API, reserve bool, tell func(Progress)) (*Verified, error) {
	c, err := at.client(ctx)
	if err != nil {
		return nil, err
	}
	if reserve {
		d.ReserveDHCP()
	}
	read, have := map[string]int{}, d.Counts()
	c.Told = func(kind string, more int) {
		read[kind] += more
		tell(Progress{kind, read[kind], have[kind]})
	}
	is, err := c.Read(ctx, d.SecurityGroups)
	if err != nil {
		return nil, err
	}
	left, err := differences(d, is, reserve)
	return &Verified{left, unbound(d), d.KindsLeftOut(), is.KindsLeftOut()}, err
}

func unbound(d *net.Document) []string {
	ids := []string{}
	for _, p := range d.Unbindable() {
		ids = append(ids, p.ID)
	}
	return ids
}

// Apply creates in the platform at an API what a document has, where it is missing, and
// reads all of it back. What is there already must be equal: else nothing is written, and
// the error is of kind fail.Refused.
func Apply(ctx context.Context, d *net.Document, o Order, tell func(Progress)) (r *Report, err error) {
	begun := time.Now()
	if err := UnknownNames(d, o.LeaveOut); err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	if err := allowed(d, o.LeaveOut); err != nil {
		return nil, err
	}
	c, err := o.API.client(ctx)
	if err != nil {
		return nil, err
	}
	if o.ReserveDHCP {
		d.ReserveDHCP()
	}
	has, err := able(ctx, d, c, o.API.Endpoint)
	if err != nil {
		return nil, err
	}
	db, err := rows.Open(ctx, "target", o.DB.DSN, o.DB.Name, o.DB.Password)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	known, err := agrees(ctx, c, db, o.API)
	if err != nil {
		return nil, err
	}
	p, err := compare(ctx, d, c, o)
	if err != nil {
		return nil, err
	}
	r, err = plan(d, p)
	if err != nil {
		return nil, err
	}
	if err := roomy(ctx, d, c, p.absent); err != nil {
		return nil, err
	}
	r.DryRun, r.Unproven, r.Unbound, r.LeftOut = o.DryRun, o.DryRun && !known, unbound(d), d.KindsLeftOut()
	if !o.DryRun && len(p.left) > 0 {
		if has[scopes] {
			err = proves(ctx, c, db, o.API)
		} else if !known {
			err = unproven(db, o.API)
		}
		if err != nil {
			return nil, err
		}
		if err := keep(o.Applied, d, true); err != nil {
			return nil, err
		}
		w := &writer{whole: d, d: d, c: c, db: db, p: p, jobs: o.Jobs, tell: tell, refusals: &refusals{}}
		if r.Plugs, err = w.write(ctx); err != nil {
			return nil, w.also(err)
		}
		is, err := c.Read(ctx, d.SecurityGroups)
		if err != nil {
			return nil, w.also(err)
		}
		left, err := differences(d, is, o.ReserveDHCP)
		if err != nil {
			return nil, err
		}
		if left = slices.DeleteFunc(slices.DeleteFunc(left, net.ExtraAddresses), w.told(d)); len(left) > 0 {
			return nil, w.also(fail.Errorf(fail.Failed, "what was read back differs in %d places; the first: %s", len(left), Text(left[0])).
				With("See all of them: holdfast transition net verify"))
		}
		if err := w.err(); err != nil {
			return nil, err
		}
	}
	if !o.DryRun {
		if err := keep(o.Applied, d, false); err != nil {
			return nil, err
		}
	}
	r.Seconds = time.Since(begun).Seconds()
	return r, nil
}

// Text is a difference in a line.
func Text(d net.Difference) string {
	if d.Field == "object" {
		if d.New == nil {
			return fmt.Sprintf("%s %s: is missing", d.Kind, d.ID)
		}
		return fmt.Sprintf("%s %s: the document does not have it", d.Kind, d.ID)
	}
	return fmt.Sprintf("%s %s: %s: the document has %s, Neutron %s", d.Kind, d.ID, d.Field, shown(d.Old), shown(d.New))
}

// plan says what is to be made; what is there, but differs, is refused, unless it is stale. Rules which Neutron
// gave a new group by itself are to be replaced by the document's. It notes the ports that are half made.
func plan(d *net.Document, p *pending) (r *Report, err error) {
	r = &Report{Created: map[string]int{}, Removed: map[string]int{}, Renewed: map[string]int{}}
	stale, parents := p.stale, parents(d)
	var bad []string
	renewed := map[string]bool{}
	for _, x := range p.left {
		switch {
		case stale.Has(x):
			if x.Field == "object" {
				r.Removed[x.Kind]++
			} else if !renewed[x.ID] {
				renewed[x.ID] = true
				r.Renewed[x.Kind]++
			}
		case x.Field == "object" && x.New == nil:
			r.Created[x.Kind]++
		case x.Field == "object" && x.Kind == "security_group_rule":
			// Whether it is one of those is looked at before it is removed.
		case x.Field == "object" && x.Kind == "rbac_policy" && (p.known[x.ID] || p.extra[x.ID]):
		case d.ToCome(x):
		// it was made, and was not bound yet when it was looked at
		case net.NotBound(x), parents[x.ID] && x.Field == "binding:host_id" && string(x.New) == `""`:
			p.half[x.ID] = true
		case x.Field == net.PlugField:
			r.Plugs++
		default:
			bad = append(bad, Text(x))
		}
	}
	if len(bad) > 0 {
		more := ""
		if len(bad) > 20 {
			bad, more = bad[:20], fmt.Sprintf("\nand %d more", len(bad)-20)
		}
		return nil, fail.Errorf(fail.Refused, "the target has other objects than the document, or such that "+
			"differ:\n%s%s", strings.Join(bad, "\n"), more).
			With("Remove them there, or make them equal; nothing was written.")
	}
	for _, n := range d.Counts() {
		r.Equal += n
	}
	for _, of := range []map[string]int{r.Created, r.Renewed} {
		for _, n := range of {
			r.Equal -= n
		}
	}
	r.Bound = len(p.half)
	return r, nil
}

// rulesOf has a group have the rules that are wanted, and none that Neutron gave it by itself.
func (w *writer) rulesOf(ctx context.Context, g net.Group, want []net.Rule) error {
	have, err := w.c.Rules(ctx, g.ID)
	if err != nil {
		return err
	}
	is := func(id string) func(net.Rule) bool { return func(r net.Rule) bool { return r.ID == id } }
	for _, r := range have {
		switch {
		case slices.ContainsFunc(want, is(r.ID)):
		case !r.Automatic():
			return fail.Errorf(fail.Refused, "security group %s has the rule %s on the target, which the document does not have", g.ID, r.ID).
				With("If it is not wanted, remove it: openstack security group rule delete " + r.ID)
		default:
			if err := w.c.Delete(ctx, "security-group-rules", r.ID); err != nil {
				return err
			}
		}
	}
	for _, r := range want {
		if slices.ContainsFunc(have, is(r.ID)) {
			continue
		}
		if err := w.take(refusal{kind: "security_group_rule", id: r.ID, missing: true}, w.c.Rule(ctx, r)); err != nil {
			return err
		}
	}
	return nil
}

// alive keeps the agents alive in Neutron's eyes while work goes on: their hosts may report
// to the old platform still, and no port is bound to a host without a living agent.
func alive(ctx context.Context, d *net.Document, db *rows.Database, work func(context.Context) error) error {
	if err := db.Heartbeat(ctx, d.Agents); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var beats error
	var wg sync.WaitGroup
	wg.Go(func() {
		for clock.Sleep(ctx, beat) {
			if err := db.Heartbeat(ctx, d.Agents); err != nil {
				if ctx.Err() == nil {
					beats = err
					cancel()
				}
				return
			}
		}
	})
	err := work(ctx)
	cancel()
	wg.Wait()
	return errors.Join(err, beats)
}

// each does work for all of a list, some at once. The first error ends it.
func each[T any](ctx context.Context, step string, list []T, jobs int, tell func(Progress), work func(context.Context, T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, done := 0, 0
	var failed error
	tell(Progress{step, 0, len(list)})
	for range min(jobs, len(list)) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(list) || ctx.Err() != nil {
					return
				}
				err := work(ctx, list[i])
				mu.Lock()
				if err != nil && failed == nil {
					failed = err
					cancel()
				}
				done++
				tell(Progress{step, done, len(list)})
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}
