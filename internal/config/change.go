package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// Effect says when a changed field of the configuration takes effect in a cluster
// that runs.
type Effect string

// Effects, the later the worse.
const (
	Now     Effect = "now"     // within seconds, without a restart of anything
	AtStart Effect = "start"   // at the next start of the management VM
	Swap    Effect = "member"  // by an installation, while the cluster runs: a member is replaced
	Install Effect = "install" // not while the cluster runs
	ByOrder Effect = "command" // by the command that makes the hosts ready for it, while the cluster runs
)

// Change is one field that differs between two configurations.
type Change struct {
	Path   string `json:"path"`          // such as Network[0].Gateway
	Old    string `json:"old"`           // as JSON; empty: not given
	New    string `json:"new"`           // the same
	Effect Effect `json:"effect"`        // of the change
	Why    string `json:"why,omitempty"` // Install: why not while the cluster runs
}

// String gives the change in one line; a long value, as the XML of a domain, by its length.
func (c Change) String() string {
	const longest = 300
	show := func(s string) string {
		if len(s) > longest {
			return fmt.Sprintf("(%d characters, all of them with -o json)", len(s))
		}
		if s == "" {
			return "(none)"
		}
		return s
	}
	return fmt.Sprintf("%s: %s -> %s", c.Path, show(c.Old), show(c.New))
}

// effect is the rule of the fields at and below a path.
type effect struct {
	Effect
	why string
}

const (
	whyProof = "what the hosts have promised each other rests on it, so a change is not safe while any of them runs"
	whyDisk  = "it names the disk of the management VM: another one is another management VM"
)

// effects has every field of Cluster, and those below that differ from the field
// that holds them; "*" stands for a host. TestEveryFieldHasAnEffect keeps
// it complete.
var effects = map[string]effect{
	"Node":                     {Install, "it says which hosts are members, and where"},
	"MemorySizeInGB":           {AtStart, ""},
	"MemorySizeInMB":           {AtStart, ""},
	"CPU":                      {AtStart, ""},
	"Type":                     {Install, whyDisk},
	"MonAddrs":                 {AtStart, ""},
	"ChronyServers":            {AtStart, ""},
	"PoolName":                 {Install, whyDisk},
	"Ceph":                     {AtStart, ""},
	"ImageFolder":              {Install, whyDisk},
	"ImageURL":                 {Install, whyDisk},
	"DNS":                      {AtStart, ""},
	"Network":                  {AtStart, ""},
	"ConsoleProxyOverriddenIP": {AtStart, ""},
	"AllowResetRootPassword":   {Now, ""},
	"Fencing":                  {Now, ""},
	"Fencing*.Watchdog":        {Install, "the process that holds the device outlives the agent and keeps the device that it has"},
	"Timings":                  {Now, ""},
	"Timings.Profile":          {Install, whyProof}, // where it changes one of the next four
	"Timings.Lease":            {Install, whyProof},
	"Timings.Keepalive":        {Install, whyProof},
	"Timings.Grace":            {Install, whyProof},
	"Timings.Watchdog":         {Install, whyProof},
	"HealthCheck":              {Now, ""},
	"LockManager":              {AtStart, ""},
	"SharedStorageProbe":       {Now, ""},
	"Restart":                  {Now, ""},
	"OnPanic":                  {AtStart, ""},
	"Labels":                   {Now, ""},
	"DirectBoot":               {AtStart, ""},
	"DomainXML":                {AtStart, ""},
	"VNC":                      {AtStart, ""},
	"Pair":                     {Install, "both nodes' agents read it when they start"},
	"Notifications":            {Now, ""},
	"Pair.Partition":           {ByOrder, "both nodes' disks must be made ready for it: holdfast pair partition"},
}

// Diff returns the fields in which b differs from a, in the order of Cluster.
func Diff(a, b Cluster) []Change {
	var out []Change
	from, to := tree(a), tree(b)
	for _, name := range Fields() {
		walk(name, from[name], to[name], &out)
	}
	// What the hosts promise is what the values are, however they are written.
	promised := func(cl Cluster) [4]any {
		t := cl.Timings()
		return [4]any{t.Lease, t.Keepalive, t.Grace, t.Watchdog}
	}
	same := promised(a) == promised(b)
	swap, swaps := Replaced(a, b)
	for i := range out {
		c := &out[i]
		if e := effectOf(c.Path); e.why != whyProof || !same {
			c.Effect, c.Why = e.Effect, e.why
		} else {
			c.Effect = Now
		}
		if swaps && c.Effect == Install && swap.about(c.Path) {
			c.Effect, c.Why = Swap, ""
		}
		if c.Path == "ImageURL" && sameImage(a.ImageURL, b.ImageURL) {
			c.Effect, c.Why = AtStart, ""
		}
	}
	return out
}

// Fields are the names of the fields of a configuration, in order.
func Fields() (names []string) {
	t := reflect.TypeFor[Cluster]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// tree is the configuration as JSON has it.
func tree(cl Cluster) (t map[string]any) {
	d := json.NewDecoder(bytes.NewReader(cl.JSON()))
	d.UseNumber()
	if err := d.Decode(&t); err != nil {
		panic(fmt.Sprintf("read back a configuration: %v", err)) // it was written just now
	}
	return t
}

// JSON is the configuration as a file has it, which Parse reads again.
func (cl Cluster) JSON() []byte {
	b, err := json.MarshalIndent(cl, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("write a configuration: %v", err)) // it holds nothing that JSON has not
	}
	return append(b, '\n')
}

// YAML is the configuration as a file whose name ends in .yaml has it, which Parse reads again.
func (cl Cluster) YAML() []byte {
	b, err := strictyaml.FromJSON(cl.JSON())
	if err != nil {
		panic(fmt.Sprintf("write a configuration: %v", err)) // it was written just now
	}
	return b
}

// walk adds what differs between two values at a path: of objects and of lists of
// objects each member, of all else the whole.
func walk(path string, a, b any, out *[]Change) {
	switch am, bm := members(a), members(b); {
	case empty(a) && empty(b), reflect.DeepEqual(a, b):
	case am != nil && bm != nil || am != nil && b == nil || bm != nil && a == nil:
		keys := maps.Clone(am)
		if keys == nil {
			keys = map[string]any{}
		}
		maps.Copy(keys, bm)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			walk(field(path, k), am[k], bm[k], out)
		}
	case objects(a) && objects(b):
		al, bl := a.([]any), b.([]any)
		for i := range max(len(al), len(bl)) {
			walk(index(path, i), at(al, i), at(bl, i), out)
		}
	default:
		*out = append(*out, Change{Path: path, Old: written(a), New: written(b)})
	}
}

// empty reports that a value is null or a list without elements.
func empty(v any) bool {
	l, list := v.([]any)
	return v == nil || list && len(l) == 0
}

func members(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// objects reports whether a value is a list of objects.
func objects(v any) bool {
	l, ok := v.([]any)
	return ok && len(l) > 0 && members(l[0]) != nil
}

func at(l []any, i int) any {
	if i < len(l) {
		return l[i]
	}
	return nil
}

func written(v any) string {
	if v == nil {
		return ""
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("write a value: %v", err)) // it was read from JSON
	}
	return string(b)
}

// effectOf finds the rule of a path: that of the longest part of it that has one.
func effectOf(path string) effect {
	for {
		for pattern, e := range effects {
			if matches(pattern, path) {
				return e
			}
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return effect{Install, "it is not known when it takes effect"}
		}
		path = path[:i]
	}
}

// matches compares a path with a pattern.
func matches(pattern, path string) bool {
	before, after, any := strings.Cut(pattern, "*")
	if !any {
		return pattern == path
	}
	return len(path) > len(before)+len(after) && strings.HasPrefix(path, before) && strings.HasSuffix(path, after)
}
