package group

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// Database is a copy that is a MariaDB server.
type Database struct {
	DB *mariadb.Driver
	// Peer is the other server, as this one follows it.
	Peer replica.Source
	// PeerRows has the other node's agent read rows, until end is called; nil: they are not compared.
	PeerRows func() (ask mariadb.Ask, end func(), err error)
	// Self and Other are this node and the other one.
	Self, Other cluster.HostID
	// Addr is this node's address, for people.
	Addr string
	// SaveDir is where transactions go that the peer does not have, before this copy loses them.
	SaveDir string
	// Dir survives reboots. The files in it say that this copy is one of the pair, and that it
	// was promoted, and has not followed since.
	Dir string

	mu       sync.Mutex
	acked    uint64         // by the peer, at the last look
	at       time.Time      // since when it has not changed although commits wait
	seen     replica.Status // at the last look
	full     string         // at the last look
	broken   bool           // it was tried in vain to follow: the data may be damaged, or what the peer does not have can not be saved
	stray    string         // what is told of transactions that were made on this standby, until it was tried to follow
	weak     []string       // tables, as Describe tells it
	bypass   []string       // accounts, the same
	finder   mariadb.WeakFinder
	trouble  string    // what tidy could not do
	tidiedAt time.Time // when it began last
	tablesAt time.Time // the same of the look for tables
	tidying  bool
	looks    sync.WaitGroup // for it
	save     string         // file for what the peer does not have, until this copy follows; "": not tried yet
	meter    meter          // of the copy
	comparison
}

// DirName is the folder of Database.Dir below an agent's data directory.
const DirName = "pair"

// knownName is the file in Dir that says that this copy is one of the pair.
const knownName = "pair-copy"

// stuckAfter is how long no commit may be acknowledged while some wait, until the peer
// counts as one that does not acknowledge: one that stands still stays connected.
const stuckAfter = time.Second

// First makes this copy the one that a pair begins with: setup calls it, once, on one node.
func (d *Database) First(ctx context.Context) error {
	if known, err := d.known(); err != nil || known {
		if err == nil {
			err = fail.Errorf(fail.Refused, "the data in %s belong to a pair already", d.DB.Datadir())
		}
		return err
	}
	if err := d.DB.Found(ctx); err != nil {
		return err
	}
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	return durable.WriteFile(wroteFile(d.Dir), []byte(st.Run), 0o600)
}

// Disown has this node's copy replaced by one of the peer's, and moved aside, when it can not follow, or when its rows were not those of
// the peer. dir is Database.Dir. An agent may be at work; another copy that follows is left as it is.
func Disown(dir string) error {
	if is, err := there(dir); err != nil || !is {
		return err // nothing was ever a copy here
	}
	c, err := compared(dir)
	if err == nil && c != nil && len(c.Differ) > 0 {
		err = durable.WriteFile(filepath.Join(dir, anewName), nil, 0o600)
	}
	if err != nil {
		return err
	}
	return removed(filepath.Join(dir, knownName))
}

// know notes that this copy is one of the pair.
func (d *Database) know() error {
	if known, err := d.known(); err != nil || known {
		return err
	}
	return durable.WriteFile(filepath.Join(d.Dir, knownName), nil, 0o600)
}

// known reports that this copy is one of the pair.
func (d *Database) known() (bool, error) { return there(filepath.Join(d.Dir, knownName)) }

// asideName is behind the name of the data directory, and before the time at which the data
// were replaced that a node had before it was one of the pair.
const asideName = ".before-pair-"

// Look says how the copy is.
func (d *Database) Look(ctx context.Context, s pair.Sync) (r pair.Replica, told string, err error) {
	st, err := d.DB.Status(ctx)
	if err != nil {
		return r, "", err
	}
	room := full(d.DB.Datadir())
	d.mu.Lock()
	d.seen, d.full = st, room
	d.mu.Unlock()
	d.tidy(st.Role == replica.Primary || st.Role == replica.Replica)
	run, wrote, err := readWrote(d.Dir)
	if err != nil {
		return r, "", err
	}
	r = pair.Replica{Waits: st.Waits, Wrote: wrote}
	switch st.Role {
	case replica.Primary:
		r.Role, r.Linked = pair.RoleActive, st.Connected && !d.stuck(st) && st.Lossy == ""
	case replica.Replica, replica.Idle:
		r.Role, r.Linked, r.Stuck = pair.RoleStandby, st.Receives, st.Receives && st.Relay == ""
		r.Shut = st.Role == replica.Idle && wrote && st.Run == run
	case replica.Down:
		r.Role = pair.RoleOff
	default:
		return pair.Replica{}, "", nil
	}
	// Who was promoted last has kept what it committed: it is started as a primary. Any
	// other has what was acknowledged only by a proof that holds for this run of its relay log.
	g, err := guarantee(s.Proof)
	r.Whole = wrote || err == nil && g.Safe && st.Lossy == "" && st.Relay != "" && g.Replica == st.Node && g.Relay == st.Relay
	anew, aerr := d.anew()
	stray := d.strays(st, wrote)
	if err = errors.Join(err, aerr); err == nil && (anew || stray) && !wrote && r.Role == pair.RoleStandby {
		r.Whole, r.Stuck = false, r.Linked // it ends to follow, and is made anew
	}
	if r.Whole && !wrote && err == nil {
		err = d.know() // also where Disown came too late
	}
	if err != nil {
		return r, "", err
	}
	d.compare(r.Whole && !wrote && st.Role == replica.Replica)
	b, err := json.Marshal(replica.Status{Role: st.Role, Node: st.Node, Run: st.Run, Relay: st.Relay, Of: st.Of, Lossy: st.Lossy})
	return r, string(b), err
}

// tidyEvery is between two times in which the accounts and the logs of the database are looked at; tablesEvery between two looks for
// tables of engines without transactions.
const (
	tidyEvery   = time.Minute
	tablesEvery = time.Second
)

// mostWeak is how many of them are named.
const mostWeak = 10

// tidy begins now and then to look for what is for people, and has a server that answers remove old binary logs. Nothing waits for it.
func (d *Database) tidy(answers bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.tidying || now.Sub(d.tablesAt) < tablesEvery {
		return
	}
	d.tidying, d.tablesAt = true, now
	all := now.Sub(d.tidiedAt) >= tidyEvery
	if all {
		d.tidiedAt = now
	}
	d.looks.Go(func() {
		weak := weakOf(&d.finder, d.DB.Datadir())
		var bypass []string
		trouble := ""
		if all && answers {
			bypass, trouble = d.tidied(context.Background()) // each statement has a limit of its own
			trouble = cmp.Or(trouble, d.tidyCompared(context.Background()))
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.tidying, d.weak = false, weak
		if all {
			d.bypass, d.trouble = bypass, trouble
		}
	})
}

// tidied has old logs removed, and gives the accounts that may write past the other node.
func (d *Database) tidied(ctx context.Context) (bypass []string, trouble string) {
	if err := d.DB.TrimLogs(ctx); err != nil {
		trouble = "old binary logs are not removed: " + err.Error()
	}
	who, err := d.DB.Bypass(ctx)
	switch {
	case err != nil:
		bypass = append(bypass, "not known: accounts can not be looked at: "+err.Error())
	case len(who) > 0:
		bypass = append(bypass, fmt.Sprintf("accounts that may write past the other node, by ALL PRIVILEGES, SUPER, "+
			"BINLOG ADMIN or READ ONLY ADMIN: %s",
			strings.Join(who, ", ")))
	}
	return bypass, trouble
}

// weakOf names the tables of engines without transactions, with what can be lost of them. A data directory that is not there has none.
func weakOf(f *mariadb.WeakFinder, datadir string) (out []string) {
	all, err := f.Find(datadir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []string{"not known: tables without transactions can not be looked for: " + err.Error()}
	}
	for i, w := range all {
		if i == mostWeak {
			return append(out, fmt.Sprintf("%d more tables of such engines", len(all)-i))
		}
		out = append(out, w.String())
	}
	return out
}

// Describe tells people how the copy was at the last look.
func (d *Database) Describe(r *cluster.PairReport) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r.Data, r.Lag, r.LagKnown, r.Problem = d.DB.Datadir(), d.seen.Lag, d.seen.LagKnown,
		cmp.Or(d.seen.Outage, d.stray, d.seen.Problem, d.full, d.trouble)
	r.Outage = d.seen.Outage != ""
	r.Weak = slices.Concat(d.weak, d.bypass)
	d.tellCompared(r)
	if d.seen.Role == replica.Replica && d.seen.Relay == "" && d.seen.Problem != "" && d.stray == "" { // it does not apply
		r.Problem += d.remedy()
		r.Lasting = true
	}
	r.Lasting = r.Lasting || d.seen.Lossy != "" || d.broken && d.seen.Role != replica.Primary
	if c, ok := d.DB.Copying(); ok {
		r.Copy = d.meter.look(c, time.Now())
	}
}

// stuck reports that commits wait, and none was acknowledged for a while.
func (d *Database) stuck(st replica.Status) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if st.Blocked == 0 || st.Acked != d.acked || d.at.IsZero() {
		d.acked, d.at = st.Acked, time.Now()
	}
	return time.Since(d.at) >= stuckAfter
}

func guarantee(proof string) (g replica.Guarantee, err error) {
	if proof == "" {
		return g, nil
	}
	return g, json.Unmarshal([]byte(proof), &g)
}

// Promote makes this copy the active one: by the proof of the record, or since it was the
// last one that was promoted.
func (d *Database) Promote(ctx context.Context, s pair.Sync) error {
	run, wrote, err := readWrote(d.Dir)
	if err != nil {
		return err
	}
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	g, err := guarantee(s.Proof)
	if err != nil {
		return err
	}
	if wrote {
		node := d.DB.Node()
		if st.Role != replica.Down && st.Role != replica.Primary && st.Run != run {
			return fail.Errorf(fail.Refused, "this database was started anew since it was the primary, and not as one")
		}
		g = replica.Guarantee{Safe: true, Primary: node, Run: st.Run}
	}
	if err := errors.Join(d.know(), durable.WriteFile(wroteFile(d.Dir), []byte(run), 0o600)); err != nil {
		return err
	}
	if err := d.DB.Promote(ctx, replica.Claim{License: g}); err != nil {
		var e *fail.Error
		if !wrote && errors.As(err, &e) && e.Kind == fail.Refused {
			err = errors.Join(err, forgetWrote(d.Dir)) // nothing was changed
		}
		return err
	}
	if st, err = d.DB.Status(ctx); err != nil {
		return err
	}
	return durable.WriteFile(wroteFile(d.Dir), []byte(st.Run), 0o600)
}

// hardWithin is what a Demote that is hard may take until the database is killed, twice. A
// commit that waits for a standby that has just died would hold it up for longer than the
// watchdog waits after the end of the lease (cluster.Timings.Grace).
const hardWithin = 400 * time.Millisecond

// Demote ends all writing.
func (d *Database) Demote(ctx context.Context, hard bool) error {
	d.mu.Lock()
	hard = hard || d.seen.Role == replica.Silent
	d.mu.Unlock()
	if hard {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, hardWithin)
		defer cancel()
	}
	return d.DB.Demote(ctx)
}

// Ready reports that the peer's database answers now, and that this one takes writes, of clients, too: what keeps them from it may hold up
// what ends all writes.
func (d *Database) Ready(ctx context.Context) error {
	if err := d.DB.PeerAnswers(ctx, d.Peer); err != nil {
		return fmt.Errorf("the database on %s does not answer: %w", d.Other, err)
	}
	d.mu.Lock()
	seen := d.seen
	d.mu.Unlock()
	switch {
	case seen.Role == replica.Silent:
		return fmt.Errorf("the database on %s does not answer: %s", d.Self, seen.Problem)
	case seen.Outage != "":
		return fmt.Errorf("the database on %s: %s", d.Self, seen.Outage)
	}
	if err := d.DB.TakesWrites(ctx); err != nil {
		return fmt.Errorf("the database on %s: %w", d.Self, err)
	}
	return nil
}

// Drain ends all writing in an orderly way. Commits that wait are acknowledged first, so
// that the peer has everything.
func (d *Database) Drain(ctx context.Context, told string) error {
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	if !st.Guarantee.Safe { // it has connected anew, for example
		if _, err := d.Join(ctx, told); err != nil {
			return err
		}
	}
	killed, err := d.DB.Quiet(ctx)
	if err != nil {
		return err
	}
	if killed != nil {
		return fail.Errorf(fail.Failed, "the database did not become read-only in time, and was ended: %w", killed)
	}
	if st, err = d.DB.Status(ctx); err != nil {
		return err
	}
	if st.Role == replica.Down {
		return fail.Errorf(fail.Failed, "the database has ended before it became read-only")
	}
	return nil
}

// Alone lets commits end without the peer.
func (d *Database) Alone(ctx context.Context) error { return d.DB.Alone(ctx) }

// Join proves that the peer has everything.
func (d *Database) Join(ctx context.Context, told string) (string, error) {
	var standby replica.Status
	if told != "" {
		if err := json.Unmarshal([]byte(told), &standby); err != nil {
			return "", fmt.Errorf("what the peer tells of its copy: %w", err)
		}
	}
	g, err := d.DB.Together(ctx, standby)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(g)
	return string(b), err
}

// Follow makes this copy follow the peer's. The driver itself cuts, or makes a copy anew,
// and saves before what the peer does not have.
func (d *Database) Follow(ctx context.Context, cut bool) error {
	from, began := d.Peer, time.Now()
	if cut && d.SaveDir != "" {
		if err := os.MkdirAll(d.SaveDir, 0o700); err != nil {
			return err
		}
		// One file for all tries.
		if d.save == "" {
			d.save = filepath.Join(d.SaveDir, "transactions-"+time.Now().UTC().Format("20060102T150405.000Z")+".sql")
		}
		from.Save = d.save
	}
	replaced, err := d.replaced()
	if err != nil {
		return err
	}
	switch {
	case replaced:
		from.Aside = d.DB.Datadir() + asideName + time.Now().UTC().Format("20060102T150405.000Z")
	case !cut:
		from.Save, from.Seed = "", nil
	}
	if from.Aside != "" {
		d.compare(false)
	}
	err = d.DB.Resync(ctx, from)
	var broken mariadb.Broken
	damaged := errors.As(err, &broken) && from.Aside == ""
	var unsaved mariadb.Unsaved
	kept := errors.As(err, &unsaved)
	d.mu.Lock()
	d.broken, d.stray = damaged || kept, ""
	d.mu.Unlock()
	switch {
	case damaged:
		err = fmt.Errorf("%w%s", err, d.remedy())
	case kept:
		err = fmt.Errorf("%w; to have its data moved aside, with those transactions, and copied anew: holdfast pair "+
			"recover %s, on the node that serves", err, d.Addr)
	}
	if err != nil {
		return err
	}
	d.save = ""
	if c, ok := d.DB.Copying(); ok && c.Stage == replica.Copied && c.Begun.After(began) {
		if err := d.forgetCompared(); err != nil {
			return err
		}
	}
	return errors.Join(d.know(), forgetWrote(d.Dir))
}

// remedy is what helps a copy that can not be used.
func (d *Database) remedy() string {
	return fmt.Sprintf("; if its data are damaged, they are copied anew by: holdfast pair recover %s, on the node that serves", d.Addr)
}

// Unfollow ends following.
func (d *Database) Unfollow(ctx context.Context) error { return d.DB.Detach(ctx) }

// Leave makes this copy a database of its own, which has all that it has received. One that is
// no copy of a pair stays as it is: left is false. Nobody else uses it.
func (d *Database) Leave(ctx context.Context) (left bool, err error) {
	known, err := d.known()
	if err != nil {
		return false, err
	}
	_, wrote, err := readWrote(d.Dir)
	if err != nil || !known && !wrote {
		return false, err
	}
	if err := d.DB.Demote(ctx); err != nil {
		return false, err
	}
	if err := d.DB.Leave(ctx); err != nil {
		return false, err
	}
	if err := removed(filepath.Join(d.Dir, knownName)); err != nil {
		return false, err
	}
	return true, forgetWrote(d.Dir)
}

// Close closes the connections to the server.
func (d *Database) Close() {
	d.compare(false)
	d.looks.Wait()
	d.DB.Close()
}
