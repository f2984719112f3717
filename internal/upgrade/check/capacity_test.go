package check

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
)

// group makes hosts of these sizes with guests of these sizes on each, MiB.
func group(sizes []int64, guests [][]int64) *Input {
	inv := &inventory.Inventory{}
	for i, s := range sizes {
		name := cluster.HostID(fmt.Sprintf("h%d", i+1))
		inv.Hosts = append(inv.Hosts, inventory.Host{Name: name, MemoryMiB: s})
		for j, m := range guests[i] {
			inv.VMs = append(inv.VMs, inventory.VM{Name: fmt.Sprintf("%s-%d", name, j), Host: name, MemoryMiB: m, Running: true})
		}
	}
	return &Input{Inventory: inv}
}

func TestCapacity(t *testing.T) {
	for _, c := range []struct {
		what   string
		in     *Input
		change func(*Input)
		want   []string
	}{
		{"room", group([]int64{10, 10, 10}, [][]int64{{5, 5}, {5}, {}}), nil, nil},
		{"too little in all", group([]int64{10, 10}, [][]int64{{6}, {6}}), nil, []string{
			"fail h1: can not be emptied with any placement of guests: its guests need 6 MiB", "fail h2: can not be emptied with any"}},
		{"alone", group([]int64{10}, [][]int64{{6}}), nil,
			[]string{"fail h1: can not be emptied with any placement of guests: there is no other host"}},
		{"scattered", group([]int64{10, 10, 10}, [][]int64{{8}, {5}, {5}}), nil, []string{
			"warn h1: can not be emptied with the present placement of guests: h1-0 (8 MiB, 0 CPUs) finds no place"}},
		{"all scattered", group([]int64{10, 10, 10}, [][]int64{{6}, {6}, {6}}), nil, []string{
			"warn h1:", "warn h2:", "warn h3:", "fail : no host of the group (all hosts) can be emptied"}},
		{"stopped by policy", group([]int64{10}, [][]int64{{6}}), func(in *Input) {
			in.Inventory.VMs[0].Fixed, in.Policy = []string{"x"}, inventory.PolicyStop
		}, nil},
		{"left out", group([]int64{10}, [][]int64{{6}}), func(in *Input) {
			in.Inventory.VMs[0].Fixed, in.Policy = []string{"x"}, inventory.PolicySkip
		}, nil},
		{"in maintenance", group([]int64{10, 10}, [][]int64{{6}, {}}),
			func(in *Input) { in.Inventory.Hosts[1].Maintenance = true }, []string{"fail h1:"}},
		{"another group", group([]int64{10, 10}, [][]int64{{6}, {}}),
			func(in *Input) { in.Inventory.Hosts[1].Group = "x" }, []string{"fail h1:"}},
		{"CPUs", group([]int64{10, 10}, [][]int64{{6}, {}}),
			func(in *Input) { in.Inventory.Hosts[1].CPUs, in.Inventory.VMs[0].CPUs = 2, 4 }, []string{
				"fail h1: can not be emptied with any placement of guests: h1-0 (6 MiB, 4 CPUs) is larger"}},
		{"done already", group([]int64{10, 10}, [][]int64{{6}, {6}}),
			func(in *Input) { in.When, in.Done = Between, []cluster.HostID{"h1"} }, []string{"fail h2:"}},
	} {
		if c.change != nil {
			c.change(c.in)
		}
		var got []string
		for _, f := range only(t, "capacity", c.in) {
			if f.Level != OK {
				got = append(got, fmt.Sprintf("%s %s: %s", f.Level, f.Where, f.Text))
			}
		}
		ok := len(got) == len(c.want)
		for i := range got {
			ok = ok && strings.HasPrefix(got[i], c.want[i])
		}
		if !ok {
			t.Errorf("%s:\ngot  %s\nwant %s", c.what, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}

// What is said of a host is compared with all placements there are.
func TestCapacityAgainstAllPlacements(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var fits, never, maybe int
	for range 6000 {
		sizes, guests := make([]int64, 3), make([][]int64, 3)
		for i := range sizes {
			sizes[i] = 4 + r.Int64N(9)
			for left := sizes[i]; r.IntN(3) > 0 && left > 0 && len(guests[i]) < 3; {
				g := 1 + r.Int64N(left)
				guests[i], left = append(guests[i], g), left-g
			}
		}
		in := group(sizes, guests)
		s := newScene(*in)
		var hosts []*inventory.Host
		for i := range in.Inventory.Hosts {
			hosts = append(hosts, &in.Inventory.Hosts[i])
		}
		p := newPack(s, hosts)
		movers, _ := p.movers(hosts[0])
		why, ever := p.fit(hosts[0], movers)
		free := []int64{sizes[1], sizes[2]}
		all := append(append([]int64(nil), guests[1]...), guests[2]...)
		anyhow := places(free, append(all, guests[0]...))
		for i := range free {
			for _, g := range guests[i+1] {
				free[i] -= g
			}
		}
		now := places(free, guests[0])
		switch {
		case why == "":
			fits++
			if !now {
				t.Fatalf("%v %v: it fits, but there is no placement", sizes, guests)
			}
		case !ever:
			never++
			if anyhow {
				t.Fatalf("%v %v: it can never fit, but there is a placement: %s", sizes, guests, why)
			}
		default:
			maybe++
		}
	}
	t.Logf("%d fit, %d never, %d perhaps", fits, never, maybe)
	if fits < 100 || never < 100 || maybe < 50 {
		t.Error("too few of a kind")
	}
}

// places reports whether guests can be put into the free memory of hosts.
func places(free, guests []int64) bool {
	if len(guests) == 0 {
		return true
	}
	for i := range free {
		if free[i] >= guests[0] {
			free[i] -= guests[0]
			ok := places(free, guests[1:])
			free[i] += guests[0]
			if ok {
				return true
			}
		}
	}
	return false
}

func BenchmarkRun3000Hosts(b *testing.B) {
	const hosts, each = 3000, 20
	one := well()
	in := &Input{Manifest: one.Manifest, Now: testNow, Store: one.Store, Facts: map[cluster.HostID]*fact.Facts{},
		Inventory: &inventory.Inventory{Version: "E0303"}}
	for i := range hosts {
		name := cluster.HostID(fmt.Sprintf("h%04d", i))
		in.Inventory.Hosts = append(in.Inventory.Hosts, inventory.Host{Name: name, MemoryMiB: 256 << 10})
		f := *one.Facts["cvm"]
		f.Host = name
		in.Facts[name] = &f
		for j := range each {
			in.Inventory.VMs = append(in.Inventory.VMs,
				inventory.VM{Name: fmt.Sprintf("v%d-%d", i, j), Host: name, MemoryMiB: 8 << 10, CPUs: 4, Running: true})
		}
	}
	for b.Loop() {
		if fs := Run(*in); Worst(fs) == Fail {
			b.Fatalf("%+v", fs[0])
		}
	}
}
