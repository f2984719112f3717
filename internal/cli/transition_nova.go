package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/fail"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/readback"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/db/sqlexpr"
	"holdfast/internal/transition/db/verify"
)

// sampled is how many guests Nova's own code reads. It takes some seconds; a fault of the
// mapping shows in most guests, and one of a row in what the checks ask of all.
const sampled = 200

// novaReader is where Nova's own code is; without conf it is not asked.
type novaReader struct{ conf, python string }

func (n *novaReader) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.conf, "nova-conf", "", fmt.Sprintf("let Nova's own code read %d guests, too; `FILE` has\nits settings, with the new databases' addresses", sampled))
	cmd.Flags().StringVar(&n.python, "nova-python", "python3", "`PYTHON` that has Nova's code")
}

// check looks for what can not be meant.
func (n *novaReader) check(cmd *cobra.Command) error {
	if n.conf == "" {
		if cmd.Flags().Changed("nova-python") {
			return usage(cmd, errors.New("--nova-python: want --nova-conf, too"))
		}
		return nil
	}
	f, err := os.Open(n.conf)
	if err != nil {
		return usage(cmd, fmt.Errorf("--nova-conf: %w", err))
	}
	defer f.Close()
	if _, err := exec.LookPath(n.python); err != nil {
		return usage(cmd, fmt.Errorf("--nova-python: %w", err))
	}
	return nil
}

// fits looks whether the mapping has what is to be read.
func (n *novaReader) fits(m *mapping.Mapping) error {
	if n.conf == "" || slices.ContainsFunc(m.Tables, func(t mapping.Table) bool { return t.Target == novaGuests }) {
		return nil
	}
	return fail.Errorf(fail.Invalid, "--nova-conf: the mapping has no table %s", novaGuests)
}

// novaGuests is the table of Nova's guests, in which deleted is 0 for those that are there.
const novaGuests = "nova.instances"

func (n *novaReader) nova(x *alignment) readback.Nova {
	return readback.Nova{Python: n.python, Conf: n.conf, Without: x.skip}
}

// leads looks, before the comparison takes its time, whether Nova's own code is there, and
// reads what is to be verified and nothing else.
func (n *novaReader) leads(ctx context.Context, x *alignment, p *mapping.Plan) error {
	var want []string
	for i := range p.Tables {
		if t := &p.Tables[i]; strings.HasPrefix(t.Target, "nova.") || strings.HasPrefix(t.Target, "nova_api.") {
			db, _ := t.OnTarget()
			want = append(want, db)
		}
	}
	r, err := n.nova(x).Read(ctx)
	if err != nil {
		return err
	}
	for _, s := range r.Servers {
		if s != x.target.Name() {
			return fail.Errorf(fail.Refused, "--nova-conf %s leads to the server %s, and the target is %s", n.conf, s, x.target.Name()).With("the addresses of that one (of a cluster: of the same node), also in the table cell_mappings")
		}
	}
	for _, db := range want {
		if slices.Contains(r.Databases, db) {
			continue
		}
		if len(r.Faults) > 0 {
			return fail.Errorf(fail.Failed, "--nova-conf %s: Nova's own code reads no database %s: %s", n.conf, db, strings.Join(r.Faults[:min(len(r.Faults), 3)], "; "))
		}
		return fail.Errorf(fail.Refused, "--nova-conf %s leads to the databases %s, and the target's are %s", n.conf, strings.Join(r.Databases, ", "), strings.Join(slices.Compact(slices.Sorted(slices.Values(want))), ", ")).With("their addresses, also in the table cell_mappings")
	}
	return nil
}

// read has Nova's own code read some of the target's guests, the same ones each time.
func (n *novaReader) read(ctx context.Context, x *alignment, p *mapping.Plan) (is verify.CheckResult, err error) {
	i := slices.IndexFunc(p.Tables, func(t mapping.Planned) bool { return t.Target == novaGuests })
	db, table := p.Tables[i].OnTarget()
	var guests []string
	err = server.Walk(ctx, x.target.DB, fmt.Sprintf("SELECT uuid FROM %s.%s WHERE deleted = 0 ORDER BY MD5(uuid) LIMIT %d", sqlexpr.Quote(db), sqlexpr.Quote(table), sampled), func(row []sql.RawBytes) error {
		guests = append(guests, string(row[0]))
		return nil
	})
	if err != nil {
		return is, fmt.Errorf("target: guests of table %s: %w", novaGuests, err)
	}
	is.Name = fmt.Sprintf("Nova's own code reads %d guests", len(guests))
	r, err := n.nova(x).Read(ctx, guests...)
	switch {
	case ctx.Err() != nil:
		return is, err
	case err != nil: // the comparison is not lost for it
		is.Error = err.Error()
		return is, nil
	}
	is.Broken, is.Holds = int64(len(r.Faults)), len(r.Faults) == 0
	if more := len(r.Faults) - shownFaults; more > 0 {
		r.Faults = append(r.Faults[:shownFaults], fmt.Sprintf("and %d more", more))
	}
	is.Error = strings.Join(r.Faults, "; ")
	return is, nil
}

// shownFaults is how many of Nova's faults are told.
const shownFaults = 20
