package aligntest

import (
	"context"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file makes an OpenStack Liberty platform out of nothing: the databases
// liberty_nova, _nova_api, _glance, _cinder and _neutron, with rows that belong
// together and with the odd ones that years of use leave behind.

// Odd is something in the source that a plan is to refuse. Without it the rows have
// none of these.
type Odd string

// What a plan is to refuse.
const (
	DuplicateAggregates Odd = "aggregates of the same name" // nova_api has a unique key on it
	CaseKeys            Odd = "extra specs whose keys differ by case only"
	NullOwners          Odd = "key pairs of nobody"           // nova_api's user_id may not be NULL
	Orphans             Odd = "rows whose instance is gone"   // made while foreign keys were not checked
	FourByte            Odd = "a column changed to utf8mb4"   // instance_metadata.value, by hand, with what only it can hold
	Unmapped            Odd = "a project without an ID"       // Platform.IDs leaves the last project out
	LongKeys            Odd = "public keys longer than 64 KB" // MEDIUMTEXT in Liberty, TEXT in nova_api
	Untyped             Odd = "volumes without a type"        // Zed wants one: a mapping needs a default
)

// Always in, as plans must bear them: some 5 % deleted rows, NULLs where the schema
// allows them, empty texts, texts with quotes, backslashes, tabs, line ends and what
// looks like SQL, the greatest texts that were (64 KiB of user data, an info cache of
// 60 interfaces), zero dates, and rows that name something that is gone where no
// foreign key guards it (volumes of block devices, members of groups, attachments).
// Liberty's columns are utf8mb3: a character of four bytes is a question mark there,
// as old servers without strict mode made of it, but is found as an escape in JSON.

// Size is how much there is of the things that instances need.
type Size struct{ Instances, Projects, Users, Hosts, Images, Networks int }

// SizeOf is the size of a platform of n instances.
func SizeOf(n int) Size {
	return Size{Instances: n, Projects: 3 + n/100, Users: 6 + n/50, Hosts: 4 + n/20, Images: 6 + n/50, Networks: 3 + n/100}
}

// Platform is what was made.
type Platform struct {
	Size                          Size
	Projects, Users, Hosts, Nodes []string         // their IDs, and names
	Zones, Pools                  []string         // availability zones; hosts of cinder-volume, with #pool
	VolumeTypes                   []string         // IDs
	Servers                       []Server         // instances, in the order of their ids
	Rows                          map[string]int64 // by DATABASE.TABLE

	unmapped bool
}

// Server is an instance.
type Server struct {
	ID            int
	UUID, Project string
	Deleted       bool
}

// fillWithin bounds Fill: 100,000 instances take less than two minutes.
const fillWithin = 15 * time.Minute

// Fill loads the Liberty schema and makes a platform of n instances in it, of some 25
// rows each. The same seed makes the same rows, with or without oddities.
func Fill(t testing.TB, r *Rig, seed uint64, n int, odd ...Odd) *Platform {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), fillWithin)
	defer cancel()
	r.Load("liberty-schema.sql", "liberty_", "liberty_")
	l := newLoader(ctx, t, r)
	if slices.Contains(odd, FourByte) {
		r.SQL("ALTER TABLE liberty_nova.instance_metadata MODIFY `value` VARCHAR(255) CHARACTER SET utf8mb4")
	}
	flush := strings.TrimSpace(r.SQL("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit"))
	r.SQL("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
	m := &maker{
		rand: rand.New(rand.NewPCG(seed, 1)), l: l, odd: odd, last: map[string]int{},
		p: &Platform{Size: SizeOf(n), unmapped: slices.Contains(odd, Unmapped)},
	}
	m.platform()
	l.close()
	r.SQL("SET GLOBAL innodb_flush_log_at_trx_commit = " + flush)
	m.p.Rows = l.rows()
	return m.p
}

// maker makes the rows.
type maker struct {
	rand *rand.Rand
	l    *loader
	odd  []Odd
	p    *Platform

	flavors  []flavor
	images   []image
	networks []network
	groups   []string // default security groups, by project
	keys     []keyPair
	last     map[string]int // last number given to a row, by table
}

func (m *maker) has(o Odd) bool { return slices.Contains(m.odd, o) }

// next numbers the rows of a table from 1, with a gap now and then.
func (m *maker) next(table string) int {
	m.last[table]++
	if m.last[table]%97 == 0 {
		m.last[table] += 3
	}
	return m.last[table]
}

func (m *maker) put(table string, values ...any) { m.l.put(table, values) }

// one is true once in n times.
func (m *maker) one(n int) bool { return m.rand.IntN(n) == 0 }

func (m *maker) uuid() string {
	a, b := m.rand.Uint64(), m.rand.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0x3fff|0x8000, b&0xffffffffffff)
}

func (m *maker) hex() string { return strings.ReplaceAll(m.uuid(), "-", "") }

// when is a time of the platform's life, which began in March 2014.
func (m *maker) when() time.Time {
	return time.Date(2014, 3, 1, 0, 0, m.rand.IntN(6*365*86400), 0, time.UTC)
}

// maybe gives v, or NULL once in n times.
func (m *maker) maybe(v any, n int) any {
	if m.one(n) {
		return nil
	}
	return v
}

// zeroDate is what servers without strict mode stored for a date that was none.
const zeroDate = "0000-00-00 00:00:00"

// touched is when a row was last changed: often never, and once in a while nonsense.
func (m *maker) touched(made time.Time) any {
	switch k := m.rand.IntN(200); {
	case k == 0:
		return zeroDate
	case k < 80:
		return nil
	default:
		return made.Add(time.Duration(m.rand.IntN(1e6)) * time.Second)
	}
}

// gone is what a row says of its deletion: when, and a number that is not 0.
func (m *maker) gone(made time.Time, id int) (at any, deleted int) {
	return made.Add(time.Duration(m.rand.IntN(1e7)) * time.Second), id
}

// oddTexts are names and values that people and programs have written. Question marks
// are what the server made of a character of four bytes.
var oddTexts = []string{
	`it's "quoted"`, `back\slash\`, "tab\there", "two\nlines", "CR\r\nLF", "  spaces  ", "中文主机", "naïve café", "????",
	`\N`, "NULL", "%s%d%n", "'; DROP TABLE instances; -- ", "`backquoted`", "0x41", "1e3", "{\"json\": true}",
	"a,b;c|d", "\u00a0nbsp\u200b", "ſtraße", "", "\x01\x1f\x7f", "z̈", "０１２",
}

// text is an odd one once in n times.
func (m *maker) text(usual string, n int) string {
	if m.one(n) {
		return oddTexts[m.rand.IntN(len(oddTexts))]
	}
	return usual
}

// IDs writes a directory of IDs: for each kind a file KIND.csv, with the pairs given, or
// for a kind without (nil) those of this platform: kind project, user, host, node,
// availability_zone, pool, volume_type and service are known.
func (p *Platform) IDs(t testing.TB, kinds map[string]map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for kind, pairs := range kinds {
		if pairs == nil {
			pairs = p.pairs(t, kind)
		}
		f, err := os.Create(filepath.Join(dir, kind+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		lines := [][]string{{"old", "new"}}
		for old, now := range pairs {
			lines = append(lines, []string{old, now})
		}
		slices.SortFunc(lines[1:], slices.Compare)
		if err := csv.NewWriter(f).WriteAll(lines); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pairs gives new values for those of the platform; hosts and zones keep theirs.
func (p *Platform) pairs(t testing.TB, kind string) map[string]string {
	t.Helper()
	out := map[string]string{}
	switch kind {
	case "project":
		known := p.Projects
		if p.unmapped {
			known = known[:len(known)-1]
		}
		for _, x := range known {
			out[x] = renamed(x)
		}
	case "user":
		for _, x := range p.Users {
			out[x] = renamed(x)
		}
	case "volume_type":
		for _, x := range p.VolumeTypes {
			out[x] = newType(x)
		}
	case "service":
		for i, x := range p.Pools {
			host, _, _ := strings.Cut(x, "#")
			out[host] = serviceID(i)
		}
	case "host", "node", "availability_zone", "pool":
		for _, x := range map[string][]string{"host": p.Hosts, "node": p.Nodes, "availability_zone": p.Zones, "pool": p.Pools}[kind] {
			out[x] = x
		}
	default:
		t.Fatalf("kind %q of IDs: want project, user, host, node, availability_zone, pool, volume_type or service, or pairs", kind)
	}
	return out
}

// Plane puts into the target's databases what a new control plane has before rows come:
// its cell, the services and the types of volumes that Platform.IDs speaks of.
func (p *Platform) Plane(r *Rig, prefix string) {
	now := "'2022-10-05 12:00:00'"
	rows := []string{
		"INSERT INTO " + prefix + "nova_api.cell_mappings (created_at, uuid, name, transport_url, " +
			"database_connection, disabled) VALUES (" +
			now + ", '00000000-0000-0000-0000-000000000000', 'cell0', 'none:///', " +
			"'mysql+pymysql://nova@db/nova_cell0', 0), (" +
			now + ", '5e110000-0000-4000-8000-000000000001', 'cell1', 'rabbit://mq/', 'mysql+pymysql://nova@db/nova', 0)",
		"INSERT INTO " + prefix + "cinder.volume_types (created_at, deleted, id, name, is_public) VALUES (" +
			now + ", 0, '7e5d0000-0000-4000-8000-000000000000', '__DEFAULT__', 1)",
	}
	for i, x := range p.VolumeTypes {
		rows = append(rows, fmt.Sprintf("INSERT INTO %scinder.volume_types (created_at, deleted, id, name, "+
			"is_public) VALUES (%s, 0, '%s', 'type%d', 1)", prefix, now, newType(x), i+1))
	}
	for i, x := range p.Pools {
		host, _, _ := strings.Cut(x, "#")
		rows = append(rows, fmt.Sprintf("INSERT INTO %scinder.services (created_at, updated_at, deleted, host, "+
			"`binary`, topic, report_count, disabled, availability_zone, uuid) VALUES (%s, %s, 0, '%s', "+
			"'cinder-volume', 'cinder-volume', 1, 0, 'nova', '%s')", prefix, now, now, host, serviceID(i)))
	}
	r.SQL(strings.Join(rows, ";\n"))
}

// serviceID is the UUID of the service of a pool in the new platform.
func serviceID(pool int) string { return fmt.Sprintf("c1de0000-0000-4000-8000-%012d", pool+1) }

// newType is the ID that a volume type has in the new platform.
func newType(old string) string { return old[:9] + "aaaa" + old[13:] }

// renamed is another ID, the same each time.
func renamed(hex string) string {
	b := []byte(hex)
	slices.Reverse(b)
	return string(b)
}

// Checksums are those of all tables of databases, by DATABASE.TABLE, as the server makes
// them of all rows.
func Checksums(t testing.TB, r *Rig, databases ...string) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	for _, db := range databases {
		var names []string
		for table := range strings.Lines(r.SQL("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '" +
			db + "' AND TABLE_TYPE = 'BASE TABLE'")) {
			names = append(names, "`"+db+"`.`"+strings.TrimSpace(table)+"`")
		}
		if len(names) == 0 {
			t.Fatalf("database %s has no tables", db)
		}
		for line := range strings.Lines(r.SQL("CHECKSUM TABLE " + strings.Join(names, ", "))) {
			var table string
			var sum int64
			if _, err := fmt.Sscanf(line, "%s\t%d", &table, &sum); err != nil {
				t.Fatalf("a checksum of database %s: %q: %v", db, line, err)
			}
			out[table] = sum
		}
	}
	return out
}
