package rebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"holdfast/internal/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
)

// collections are the kinds of objects that are removed and changed by the API, in the order in which they can be
// removed, and the names of their collections.
var collections = []struct{ kind, name string }{
	{"port", "ports"}, {"subnet", "subnets"}, {"network", "networks"}, {"security_group_rule", "security-group-rules"}, {"security_group", "security-groups"},
}

// compare gives the differences of a document and a platform, and what of these is stale.
func compare(ctx context.Context, d *net.Document, c *neutron.Client, o Order) (left []net.Difference, stale *net.Stale, err error) {
	was, err := applied(o.Applied)
	if err != nil {
		return nil, nil, err
	}
	is, err := c.Read(ctx, slices.Concat(d.SecurityGroups, was.SecurityGroups))
	if err != nil {
		return nil, nil, err
	}
	if left, err = differences(d, is, o.ReserveDHCP); err != nil {
		return nil, nil, err
	}
	if o.ReserveDHCP {
		was.ReserveDHCP()
	}
	touched, err := differences(was, is, o.ReserveDHCP)
	if err == nil {
		stale, err = net.FindStale(was, left, touched)
	}
	return left, stale, err
}

func differences(d, is *net.Document, reserve bool) ([]net.Difference, error) {
	left, err := net.Diff(d, is)
	if err == nil && reserve {
		left = net.HandedOver(d, left)
	}
	return left, err
}

// applied is what a file keeps of what was applied: an empty document where there is none yet.
func applied(file string) (*net.Document, error) {
	if file == "" {
		return &net.Document{}, nil
	}
	text, err := slurp(file)
	if errors.Is(err, fs.ErrNotExist) {
		return &net.Document{}, nil
	}
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "read what was applied: %w", err)
	}
	return net.ParseAny(file, text)
}

// keep notes what is about to be applied, beside all that was before, or what is applied now.
func keep(file string, d *net.Document, about bool) error {
	if file == "" {
		return nil
	}
	if about {
		was, err := applied(file)
		if err != nil {
			return err
		}
		d = was.With(d)
	}
	if err := dump(d, file); err != nil {
		return fmt.Errorf("keep what is applied: %w", err)
	}
	return nil
}

// remove removes what is in the document no more, and what has to be made anew.
func remove(ctx context.Context, c *neutron.Client, stale *net.Stale, jobs int, tell func(Progress)) error {
	for _, of := range collections {
		ids := slices.Sorted(maps.Keys(stale.Gone[of.kind]))
		if len(ids) == 0 {
			continue
		}
		err := each(ctx, of.name+" that are removed", ids, jobs, tell, func(ctx context.Context, id string) error { return c.Delete(ctx, of.name, id) })
		if err != nil {
			return err
		}
	}
	return nil
}

// change changes objects that others depend on.
func change(ctx context.Context, c *neutron.Client, stale *net.Stale) error {
	for _, of := range collections {
		for _, id := range slices.Sorted(maps.Keys(stale.Changed[of.kind])) {
			if err := c.Change(ctx, of.name, of.kind, id, stale.Changed[of.kind][id]); err != nil {
				return err
			}
		}
	}
	return nil
}
