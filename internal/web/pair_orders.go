package web

import (
	"errors"
	"net/http"
	"strings"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// pairOrders are what is done about a pair, by path.
func (c *Console) pairOrders() map[string]func(http.ResponseWriter, *http.Request, *view) {
	return map[string]func(http.ResponseWriter, *http.Request, *view){
		"/pair/switch":           c.onPair(pairSwitchPage, switchPair),
		"/pair/stop":             c.onPair(pairStopPage, stopPair),
		"/pair/start":            c.onPair(pairStopPage, startPair),
		"/pair/resolve":          c.onPair(pairResolvePage, resolvePair),
		"/pair/begin":            c.onPair(pairBeginPage, beginPair),
		"/pair/partition":        c.onPair(pairPartitionPage, addPartition),
		"/pair/partition/remove": c.onPair(pairPartitionPage, removePartition),
	}
}

// switchPair has the other node serve, when it has everything. The answer comes once the switch is recorded; the page shows it.
func switchPair(r *http.Request, v *view) error {
	if err := sure(r); err != nil {
		return err
	}
	p, err := v.api.Pair(r.Context())
	if err != nil {
		return err
	}
	if err := told.MaySwitch(p); err != nil {
		return err
	}
	_, to, why, _ := told.SwitchWaits(p, "")
	if why != "" {
		return fail.Errorf(fail.Refused, "%s", why).With("nothing was changed; see: holdfast pair status")
	}
	for _, err := range v.api.Migrate(r.Context(), string(to), api.NewKey()) {
		var e *fail.Error
		if errors.As(err, &e) { // what it advises is for a management VM
			return fail.Errorf(e.Kind, "%s", e.Message).With("see: holdfast pair status")
		}
		return err // it is recorded
	}
	return nil
}

// stopPair stops the services on both nodes.
func stopPair(r *http.Request, v *view) error {
	if err := sure(r); err != nil {
		return err
	}
	return v.api.Stop(r.Context(), false, api.NewKey())
}

// startPair starts the services.
func startPair(r *http.Request, v *view) error { return v.api.Start(r.Context(), api.NewKey()) }

// sameName refuses a name that was not typed again as it is.
func sameName(r *http.Request, name string) error {
	if typed := r.FormValue("again"); typed != name {
		return fail.Errorf(fail.Invalid, "name: %q was typed, want %q", typed, name)
	}
	return nil
}

// resolvePair keeps the copy of this host, whose name was typed.
func resolvePair(r *http.Request, v *view) error {
	keep := r.FormValue("keep")
	if err := sameName(r, keep); err != nil {
		return err
	}
	return v.api.ResolvePair(r.Context(), keep)
}

// beginPair begins with the data of this host, whose name was typed.
func beginPair(r *http.Request, v *view) error {
	if err := sameName(r, v.Host); err != nil {
		return err
	}
	return v.api.BeginPair(r.Context())
}

// addPartition makes a partition on an empty disk of both nodes.
func addPartition(r *http.Request, v *view) error {
	in := cluster.PartitionOrder{Name: strings.TrimSpace(r.FormValue("name")), Disk: strings.TrimSpace(r.FormValue("disk")),
		Mount: strings.TrimSpace(r.FormValue("mount"))}
	switch {
	case !strings.HasPrefix(in.Disk, "/dev/"):
		return fail.Errorf(fail.Invalid, "disk: value %q: want the path of an empty disk, such as /dev/sdb", told.Clean(in.Disk))
	case r.FormValue("unmanaged") != "yes":
		return fail.Errorf(fail.Refused, "a partition is made only while the platform manages no hosts; nothing was changed")
	case in.Mount == "":
		in.Mount = cluster.PartitionMount + in.Name
	}
	return v.api.AddPartition(r.Context(), in)
}

// removePartition takes the partition away, whose name was typed.
func removePartition(r *http.Request, v *view) error {
	name := r.FormValue("name")
	if err := sameName(r, name); err != nil {
		return err
	}
	left, err := v.api.RemovePartition(r.Context(), name)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fail.Errorf(fail.Failed, "%s is taken away, but for %s, which is not there", told.Clean(name),
			told.Clean(strings.Join(left, ", "))).With("do it again when it is back")
	}
	return nil
}
