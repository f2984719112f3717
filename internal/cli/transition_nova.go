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

	"holdfast/internal/align"
	"holdfast/internal/align/readback"
	"holdfast/internal/align/sqlexpr"
	"holdfast/internal/align/verify"
)

// sampled is how many guests Nova's own code reads. It takes some seconds; a fault of the
// mapping shows in most guests, and one of a row in what the checks ask of all.
const sampled = 200

// novaReader is where Nova's own code is.
type novaReader struct{ conf, python string }

func (n *novaReader) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.conf, "nova-conf", "", fmt.Sprintf("let Nova's own code read %d guests, too; `FILE` has\nits settings, with the new databases' addresses", sampled))
	cmd.Flags().StringVar(&n.python, "nova-python", "python3", "`PYTHON` that has Nova's code")
}

// check looks for what can not be meant.
func (n *novaReader) check(cmd *cobra.Command, m *align.Mapping) error {
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
	if !slices.ContainsFunc(m.Tables, func(t align.Table) bool { return t.Target == novaGuests }) {
		return usage(cmd, fmt.Errorf("--nova-conf: the mapping has no table %s", novaGuests))
	}
	return nil
}

// novaGuests is the table of Nova's guests, in which deleted is 0 for those that are there.
const novaGuests = "nova.instances"

// read has Nova's own code read some of the target's guests, the same ones each time.
func (n *novaReader) read(ctx context.Context, x *alignment, p *align.Plan) (verify.CheckResult, error) {
	i := slices.IndexFunc(p.Tables, func(t align.Planned) bool { return t.Target == novaGuests })
	db, table := p.Tables[i].OnTarget()
	guests, err := texts(ctx, x.target.DB, fmt.Sprintf("SELECT uuid FROM %s.%s WHERE deleted = 0 ORDER BY MD5(uuid) LIMIT %d", sqlexpr.Quote(db), sqlexpr.Quote(table), sampled))
	if err != nil {
		return verify.CheckResult{}, fmt.Errorf("target: guests of table %s: %w", novaGuests, err)
	}
	faults, _, err := readback.Nova(ctx, n.python, n.conf, guests...)
	if err != nil {
		return verify.CheckResult{}, err
	}
	is := verify.CheckResult{Name: fmt.Sprintf("Nova's own code reads %d guests", len(guests)), Broken: int64(len(faults)), Holds: len(faults) == 0}
	if !is.Holds {
		is.Error = strings.Join(faults[:min(len(faults), 20)], "; ")
	}
	return is, nil
}

// texts reads the one column of a statement.
func texts(ctx context.Context, db *sql.DB, query string) (out []string, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, rows.Err()
}
