package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
)

// refusal is an object that Neutron refuses to make or to change.
type refusal struct {
	kind, id, name string
	missing        bool // it is not there
	said           string
}

// String is what is said of it on a line.
func (r refusal) String() string { return r.object() + ": " + r.said }

func (r refusal) object() string {
	if r.name == "" {
		return r.kind + " " + r.id
	}
	return fmt.Sprintf("%s %s %q", r.kind, r.id, r.name)
}

// refusals are those of a run, and what was left out for want of them.
type refusals struct {
	mu   sync.Mutex
	all  []refusal
	need map[string][]string // IDs by kind
}

// take notes an error by which Neutron refuses an object, which ends nothing then. Another one is told with the object.
func (r *refusals) take(x refusal, err error) error {
	if err == nil {
		return nil
	}
	said, ok := neutron.Rejected(err)
	if !ok {
		var e *fail.Error
		if !errors.As(err, &e) || errors.Is(err, context.Canceled) {
			return err
		}
		return fail.Because(err, e.Kind, x.object()+": "+e.Message).With(e.Remedy)
	}
	x.said = said
	if todo := remedy(said); todo != "" {
		x.said += ": " + todo
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
	return nil
}

// missing are the IDs of what was refused and is not there.
func (r *refusals) missing() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]bool{}
	for _, x := range r.all {
		if x.missing {
			out[x.id] = true
		}
	}
	return out
}

// remedies are what to do on the new platform, by words that Neutron says when it refuses an object. The settings are those of
// neutron.conf, or of ML2.
var remedies = []struct {
	todo  string
	words []string
}{
	{"raise the project's quota: openstack quota set", []string{"quota", "exceeded"}},
	{"add it to network_vlan_ranges of ML2", []string{"unknown", "vlan", "provider"}},
	{"add it to flat_networks of ML2", []string{"unknown", "flat", "provider"}},
	{"raise max_dns_nameservers in neutron.conf", []string{"dns", "nameservers"}},
	{"raise max_subnet_host_routes in neutron.conf", []string{"host", "routes"}},
	{"raise max_allowed_address_pair in neutron.conf", []string{"allowed", "address", "pair"}},
	{"add the type to type_drivers of ML2", []string{"network_type", "value"}},
}

func remedy(said string) string {
	said = strings.ToLower(said)
	for _, r := range remedies {
		if !slices.ContainsFunc(r.words, func(w string) bool { return !strings.Contains(said, w) }) {
			return r.todo
		}
	}
	return ""
}

// lines tell all that was refused, in the order of kinds.
func (r *refusals) lines() string {
	rank := func(x refusal) int { return slices.Index(net.Kinds(), x.kind) }
	slices.SortFunc(r.all, func(a, b refusal) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a.id, b.id), strings.Compare(a.said, b.said))
	})
	lines := []string{}
	for _, x := range r.all {
		lines = append(lines, x.String())
	}
	for _, kind := range slices.Sorted(maps.Keys(r.need)) {
		lines = append(lines, fmt.Sprintf("not made, as it needs one of these: %s %d: %s", kind, len(r.need[kind]),
			strings.Join(r.need[kind], ", ")))
	}
	return strings.Join(lines, "\n")
}

// err tells what was refused, where all else was done; nil for nothing.
func (r *refusals) err() error {
	if len(r.all) == 0 {
		return nil
	}
	return fail.Errorf(fail.Failed, "the new Neutron refused what follows; all that does not need it was carried over:\n%s", r.lines()).
		With("Mend each as its line says, on the new platform, or on the old one with a new export. Then give the " +
			"same command again: it goes on with these.")
}

// also tells what was refused beside another error, which ended the run.
func (r *refusals) also(err error) error {
	if len(r.all) == 0 || errors.Is(err, context.Canceled) {
		return err
	}
	also := fmt.Sprintf("%s\nBefore that the new Neutron refused:\n%s", err, r.lines())
	var e *fail.Error
	if errors.As(err, &e) {
		return fail.Because(err, e.Kind, also).With(e.Remedy)
	}
	return fail.Because(err, fail.Failed, also)
}

// told reports whether a difference is of an object that was refused, or that was left out for want of one.
func (r *refusals) told(d *net.Document) func(net.Difference) bool {
	ids := map[string]bool{}
	for _, x := range r.all {
		ids[x.id] = true
	}
	for _, of := range r.need {
		for _, id := range of {
			ids[id] = true
		}
	}
	for _, t := range d.Trunks { // they are bound after their trunks are made
		if ids[t.ID] {
			ids[t.PortID] = true
		}
	}
	for _, v := range d.SecurityGroupRules { // Neutron's own are still there
		if ids[v.SecurityGroupID] {
			ids[v.ID] = true
		}
	}
	return func(x net.Difference) bool { return ids[x.ID] }
}

// counted are the kinds of objects of which a project has a quota, and of which the API makes no more than that.
var counted = []string{"security_group", "security_group_rule", "network", "subnet", "port"}

// roomy refuses what is more than the quotas of projects allow, before anything is written.
func roomy(ctx context.Context, d *net.Document, c *neutron.Client, absent map[string]bool) error {
	whole, more := map[string]map[string]int{}, map[string]map[string]bool{}
	count := func(kind, id, project string) {
		if whole[project] == nil {
			whole[project], more[project] = map[string]int{}, map[string]bool{}
		}
		whole[project][kind]++
		more[project][kind] = more[project][kind] || absent[id]
	}
	for _, v := range d.SecurityGroups {
		count("security_group", v.ID, v.ProjectID)
	}
	for _, v := range d.SecurityGroupRules {
		count("security_group_rule", v.ID, v.ProjectID)
	}
	for _, v := range d.Networks {
		count("network", v.ID, v.ProjectID)
	}
	for _, v := range d.Subnets {
		count("subnet", v.ID, v.ProjectID)
	}
	for _, v := range d.Ports {
		count("port", v.ID, v.ProjectID)
	}
	var lines []string
	for _, project := range slices.Sorted(maps.Keys(whole)) {
		if project == "" || !slices.ContainsFunc(counted, func(kind string) bool { return more[project][kind] }) {
			continue
		}
		quota, err := c.Quota(ctx, project)
		if err != nil {
			return err
		}
		for _, kind := range counted {
			if most, known := quota[kind]; known && most >= 0 && whole[project][kind] > most && more[project][kind] {
				lines = append(lines, fmt.Sprintf("project %s: %s: the document has %d, its quota is %d", project, kind, whole[project][kind], most))
			}
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return fail.Errorf(fail.Refused, "the new platform's quotas are too small for what the document has:\n%s", strings.Join(lines, "\n")).
		With("Raise them there: openstack quota set, such as --ports NUMBER PROJECT. Nothing was written.")
}
