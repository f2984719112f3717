package group

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestRowsThatDiffer: a session has switched its log off, and the other node lacks its row: that is found and told by name, also after a
// restart of the agent, and a copy that a person orders has the row and is compared anew. A new comparison takes the place of an older one.
func TestRowsThatDiffer(t *testing.T) {
	need.Drill(t, "Usphere, P1: rows that one node alone has are found, told, and mended by a copy of all data",
		need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a, b := r.node["a"], r.node["b"]
	ctx := try.Context(t)
	var l ledger
	r.assign("a", cluster.ProofFirst)
	r.complete()
	stop := l.write(r, 2)
	defer func() { stop() }()
	l.more(t, 20)
	compared := func(what string, is func(c *cluster.PairCompared) bool) {
		t.Helper()
		try.Until(t, what, func() bool {
			c := r.told("b").Compared
			return c != nil && is(c)
		})
	}
	again := func() { // a day is over
		b.db.mu.Lock()
		defer b.db.mu.Unlock()
		if b.db.last != nil {
			b.db.last.Ended = b.db.last.Ended.Add(-compareEvery)
		}
	}
	equal := func(c *cluster.PairCompared) bool {
		return c.Tables == 1 && len(c.Differ) == 0 && c.Rows > 0 && c.Failed == ""
	}
	differ := func(c *cluster.PairCompared) bool {
		return slices.Equal(c.Differ, []string{"app.log: id -5: b lacks this row"})
	}
	compared("equal rows", equal)
	c, err := a.root.Conn(ctx)
	try.Must(t, err)
	for _, s := range []string{"SET SESSION sql_log_bin=0", "INSERT INTO app.log VALUES (-5)"} {
		_, err := c.ExecContext(ctx, s)
		try.Must(t, err)
	}
	try.Must(t, c.Close())
	again()
	compared("the row to be named", differ)
	b.end()
	b.boot()
	r.complete()
	compared("the row to be named by the next agent", differ)
	try.Must(t, Disown(b.dir))
	compared("a copy with equal rows", equal)
	r.complete()
	if rows(t, b, "SELECT 1 FROM app.log WHERE id=-5") != 1 {
		t.Error("the copy lacks the row")
	}
	if anew, err := b.db.anew(); anew || err != nil {
		t.Errorf("it is to be made anew again: %v, %v", anew, err)
	}
	l.more(t, 20)
	stop()
	stop = func() {}
	l.check(b)
}

// TestWhenRowsAreCompared: once a copy has been whole for a while, then once a day, also when the clock was set back,
// and not right after a failure.
func TestWhenRowsAreCompared(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) *cluster.PairCompared { return &cluster.PairCompared{Ended: now.Add(d)} }
	for what, c := range map[string]struct {
		comparison
		want bool
	}{
		"it has just become whole":        {comparison{whole: now.Add(-time.Second)}, false},
		"never compared":                  {comparison{whole: now.Add(-time.Hour)}, true},
		"compared an hour ago":            {comparison{whole: now.Add(-time.Hour), last: at(-time.Hour)}, false},
		"compared yesterday":              {comparison{whole: now.Add(-time.Hour), last: at(-25 * time.Hour)}, true},
		"compared in the future":          {comparison{whole: now.Add(-time.Hour), last: at(time.Hour)}, true},
		"a try has just failed":           {comparison{whole: now.Add(-time.Hour), tried: now.Add(-time.Minute)}, false},
		"a try failed, which is long ago": {comparison{whole: now.Add(-time.Hour), tried: now.Add(-time.Hour)}, true},
	} {
		if got := c.due(now); got != c.want {
			t.Errorf("%s: due %v", what, got)
		}
	}
}

// TestDisown: a host that was installed anew has no folder, and a copy whose rows differ is marked.
func TestDisown(t *testing.T) {
	try.Must(t, Disown(filepath.Join(t.TempDir(), "none")))
	for rows, want := range map[string]bool{`{"differ": []}`: false, `{"differ": ["app.log: id 5: b lacks this row"]}`: true} {
		d := &Database{Dir: t.TempDir()}
		try.Must(t, d.know())
		try.Must(t, os.WriteFile(filepath.Join(d.Dir, comparedName), []byte(rows), 0o600))
		try.Must(t, Disown(d.Dir))
		known, kerr := d.known()
		anew, aerr := d.anew()
		if known || kerr != nil || anew != want || aerr != nil {
			t.Errorf("%s: known %v, %v; anew %v, %v", rows, known, kerr, anew, aerr)
		}
	}
}

// TestAWordThatWasCutShort: Disown has died after its first file. The copy is replaced all the same: one that ended to follow and followed
// again without a copy would do so for ever.
func TestAWordThatWasCutShort(t *testing.T) {
	d := &Database{Dir: t.TempDir()}
	for _, c := range []struct {
		has  []string
		want bool
	}{{nil, true}, {[]string{knownName}, false}, {[]string{knownName, anewName}, true}, {[]string{anewName}, true}} {
		try.Must(t, removed(filepath.Join(d.Dir, knownName), filepath.Join(d.Dir, anewName)))
		for _, name := range c.has {
			try.Must(t, os.WriteFile(filepath.Join(d.Dir, name), nil, 0o600))
		}
		if got, err := d.replaced(); got != c.want || err != nil {
			t.Errorf("%v: %v, %v", c.has, got, err)
		}
	}
}

// TestADamagedComparisonIsNone: a file that can not be read keeps nobody from following, and is told.
func TestADamagedComparisonIsNone(t *testing.T) {
	dir := t.TempDir()
	if c, err := compared(dir); c != nil || err != nil {
		t.Errorf("no file: %v, %v", c, err)
	}
	try.Must(t, os.WriteFile(filepath.Join(dir, comparedName), []byte("{"), 0o600))
	if _, err := compared(dir); err == nil || !strings.Contains(err.Error(), comparedName) {
		t.Errorf("%v", err)
	}
}

// TestTablesThatWereDropped are not told any more as ones that were not compared.
func TestTablesThatWereDropped(t *testing.T) {
	need.Real(t, need.Programs("mariadb-server", "mariadbd"), need.Programs("mariadb-backup", "mariadb-backup"))
	r := newRig(t)
	a, b := r.node["a"], r.node["b"]
	ctx := try.Context(t)
	do := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			_, err := a.root.ExecContext(ctx, s)
			try.Must(t, err)
		}
	}
	left := func(want ...string) {
		t.Helper()
		try.Until(t, "only what is there to be told", func() bool {
			b.db.tidyCompared(ctx)
			c := r.told("b").Compared
			return c != nil && slices.Equal(c.Left, want)
		})
	}
	r.assign("a", cluster.ProofFirst)
	do("CREATE TABLE app.keyless (id INT) ENGINE=InnoDB", "CREATE TABLE app.old (id INT PRIMARY KEY) ENGINE=Aria",
		"CREATE DATABASE gone", "CREATE TABLE gone.old (id INT PRIMARY KEY) ENGINE=Aria")
	r.complete()
	const keyless, aria = "app.keyless: it has no unique key of numbers, texts or dates", ": its engine is Aria"
	left(keyless, "app.old"+aria, "gone.old"+aria)
	do("DROP TABLE app.old", "DROP DATABASE gone")
	left(keyless)
}
