package report

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/store"
)

// TestOneHostsWrongReportStopsNobody: whatever a host that runs guests only writes as its report, those of others are read, and it is
// named where operators look at hosts.
func TestOneHostsWrongReportStopsNobody(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		why   string // "": it is read
	}{
		"as it should be":       {`{"host":{"name":"h4","memoryMiB":7}}`, ""},
		"empty":                 {"", "end of JSON"},
		"bad JSON":              {`{"host":{"name":"h4"`, "end of JSON"},
		"no JSON":               {"\x00\x1b[2J", "invalid character"},
		"null":                  {`null`, `about host ""`},
		"wrong types":           {`{"host":{"name":"h4","memoryMiB":"much"},"vms":7}`, "json"},
		"a list":                {`[]`, "json"},
		"a huge number":         {`{"host":{"name":"h4","memoryMiB":1e400}}`, "json"},
		"a number that is none": {`{"host":{"name":"h4"},"vms":[{"dirty":1e999}]}`, "json"},
		"a time that is none":   {`{"host":{"name":"h4"},"at":"99999-01-01T00:00:00Z"}`, "parsing time"},
		"about another host":    {`{"host":{"name":"h1"}}`, `about host "h1"`},
		"1 MB of text":          {strings.Repeat("x", 1<<20), "invalid character"},
		"more than 1 MB":        {`{"host":{"name":"h4"},"problem":"` + strings.Repeat("x", 1<<20) + `"}`, "at most 1048576 are read"},
		"1 MB in the name":      {`{"host":{"name":"` + strings.Repeat("x", 1<<19) + `"}}`, "about host"},
	} {
		t.Run(name, func(t *testing.T) {
			v := &View{Log: slog.New(slog.DiscardHandler)}
			good := store.KV{Key: "fleet/h1", Value: []byte(`{"host":{"name":"h1","memoryMiB":1}}`), ModRev: 1}
			bad := store.KV{Key: "fleet/h4", Value: []byte(c.value), ModRev: 2}
			v.relist([]store.KV{good, bad})
			check := func(kept int64) {
				t.Helper()
				seen, ok := v.Seen()
				if s := seen["h1"]; !ok || len(seen) != 2 || s.Host.MemoryMiB != 1 || !s.Up(time.Now()) || s.Problem != "" {
					t.Errorf("the other host: %t, %d are seen, %+v", ok, len(seen), s)
				}
				s := seen["h4"]
				if c.why == "" && (s.Problem != "" || s.Host.MemoryMiB != 7 || !s.Up(time.Now())) ||
					c.why != "" && (!strings.Contains(s.Problem, c.why) || len(s.Problem) > maxText || s.Host.Name != "h4" || s.Host.MemoryMiB != kept) {
					t.Errorf("got %+v", s)
				}
				inv := Inventory("lab", "1", "", seen, time.Now())
				if len(inv.Hosts) != 2 || inv.Hosts[0].Down {
					t.Errorf("inventory %+v", inv)
				}
			}
			check(0)
			v = &View{Log: slog.New(slog.DiscardHandler)}
			was := store.KV{Key: "fleet/h4", Value: []byte(`{"host":{"name":"h4","memoryMiB":7}}`), ModRev: 1}
			v.relist([]store.KV{good, was})
			v.change(store.Change{KV: bad})
			check(7)
		})
	}
}

// TestReportsAreBounded: a report as large as the store takes costs who reads it no more than an honest one, and no field of it is
// longer than a sentence.
func TestReportsAreBounded(t *testing.T) {
	long := strings.Repeat("ä", 10<<10)
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprint(i))
		}
		return out
	}
	r := Record{
		Host: inventory.Host{
			Name: "h4", Labels: map[string]string{"a": long, long: "b", "c": "d"}, Commands: many(1000), MemoryMiB: math.MaxInt64,
			CPUs: math.MaxInt, SkewMillis: math.MinInt64, FreeBytes: -5, LinkMiBps: math.MaxInt64,
			Engines: []inventory.Engine{{Node: math.MaxInt, Nodes: math.MaxInt}, {Node: 1, Nodes: 2}},
		},
		VMs: []inventory.VM{{
			Host: "h1", MemoryMiB: math.MaxInt64, CPUs: -1, Dirty: math.MaxFloat64, Fixed: many(100), Addresses: many(100),
		}},
		Problem: long, Links: map[string]int64{long: 1, "192.0.2.1": math.MaxInt64, "192.0.2.2": 5},
	}
	full := r
	fill(reflect.ValueOf(&full).Elem(), long) // what a later version adds, too
	full.Host.Name = "h4"
	for _, c := range []Record{full, r} {
		raw, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = DecodeRecord("fleet/h4", raw); err != nil {
			t.Fatal(err)
		}
		each(reflect.ValueOf(c), "report", func(path, s string) {
			if len(s) > maxText || strings.ContainsRune(s, utf8.RuneError) {
				t.Errorf("%s has %d bytes, or a character that was cut in two", path, len(s))
			}
		})
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeRecord("fleet/h4", raw)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(got.Problem, "...") {
		t.Errorf("nobody sees that %q was cut", got.Problem)
	}
	h, vm := got.Host, got.VMs[0]
	if h.MemoryMiB != maxMiB || h.CPUs != maxCPUs || h.SkewMillis != -maxMiB || h.FreeBytes != 0 || h.LinkMiBps != maxMiB ||
		len(h.Commands) != maxItems || len(h.Labels) != 1 || h.Engines[0].Node != -1 || h.Engines[0].Nodes != 0 || h.Engines[1].Nodes != 2 {
		t.Errorf("host %+v", h)
	}
	if vm.Host != "h4" || vm.MemoryMiB != maxMiB || vm.CPUs != 0 || vm.Dirty != maxMiB ||
		len(vm.Fixed) != maxFew || len(vm.Addresses) != maxFew {
		t.Errorf("guest %+v", vm)
	}
	if !reflect.DeepEqual(got.Links, map[string]int64{"192.0.2.2": 5}) || got.Unobservable {
		t.Errorf("links %v, blind %t", got.Links, got.Unobservable)
	}
	r = Record{Host: inventory.Host{Name: "h4"}, VMs: make([]inventory.VM, maxGuests+1)}
	for i := range 300 {
		r.Host.Labels, r.Host.Pools = map[string]string{}, append(r.Host.Pools, inventory.Pool{})
		r.Certificates = append(r.Certificates, inventory.Certificate{})
		for k := range i {
			r.Host.Labels[fmt.Sprint(k)] = ""
		}
	}
	if raw, err = json.Marshal(r); err != nil {
		t.Fatal(err)
	}
	got, err = DecodeRecord("fleet/h4", raw)
	if err != nil || len(got.VMs) != maxGuests || !got.Unobservable || !strings.Contains(got.Problem, "2001 guests") ||
		len(got.Host.Labels) != maxItems || len(got.Host.Pools) != maxItems || len(got.Certificates) != maxFew {
		t.Errorf("%d guests, blind %t, %q, %d labels, %d pools, %d certificates, %v",
			len(got.VMs), got.Unobservable, got.Problem, len(got.Host.Labels), len(got.Host.Pools), len(got.Certificates), err)
	}
	if got := Hosts(map[cluster.HostID]Seen{"h4": {Record: got}}, time.Now()); got["h4"].Up {
		t.Error("it is up")
	}
}

// fill sets all texts in a value, and gives lists and maps one entry.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text)
		fill(value, text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	}
}

// each calls a function with each text in a value.
func each(v reflect.Value, path string, f func(path, s string)) {
	switch v.Kind() {
	case reflect.String:
		f(path, v.String())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			each(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			each(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			each(k, path+" key", f)
			each(v.MapIndex(k), path+" value", f)
		}
	}
}
