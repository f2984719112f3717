package mariadb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/database"
)

// A session with SUPER or BINLOG ADMIN may switch its binary log off: what it writes is on one node only, and no counter tells. So the
// rows of both nodes are compared now and then, part by part, as the standby has them once it has applied what the primary had. It is
// read only, without locks; nothing goes through the binary log.

// Bounds of a comparison.
const (
	partRows = 1000 // rows of a part
	mostEach = 5000 // rows of which each is told at once: a part that has grown since is compared later
	mostDiff = 10   // differences of a table that are named; it is not looked through further then
	mostTold = 50   // differences, and tables that are left out, that are kept
	restOf   = 4    // times as long as a part took is rested after it
	leastOf  = 10 * time.Millisecond
)

// Peer is the primary whose rows are compared with a standby's.
type Peer struct {
	Here, There cluster.HostID // the standby's name, and the primary's
	Ask         Ask
}

// Ask asks the other node for its rows, as Rows does.
type Ask func(context.Context, cluster.RowsQuery) (cluster.RowsPart, error)

// Compare compares the rows of a standby with those of its primary until all were looked at, or ctx ends.
func (d *Driver) Compare(ctx context.Context, peer Peer) (out cluster.PairCompared, err error) {
	all, lacking, err := d.sameTables(ctx, peer)
	if err != nil {
		return out, err
	}
	out.Differ = lacking
	for _, t := range all {
		of := t.String()
		n, differ, left := int64(0), []string(nil), t.Left
		if left == "" {
			if n, differ, left, err = d.compare(ctx, peer, t); err != nil {
				return out, fmt.Errorf("compare %s: %w", of, err)
			}
		}
		if left != "" {
			out.Left = append(out.Left, of+": "+left)
			continue
		}
		for i, what := range differ {
			if i == mostDiff {
				out.Differ = append(out.Differ, of+": more rows")
				break
			}
			out.Differ = append(out.Differ, of+": "+what)
		}
		out.Tables, out.Rows = out.Tables+1, out.Rows+n
	}
	out.Differ, out.Left, out.Ended = told(out.Differ), told(out.Left), time.Now().UTC()
	return out, nil
}

// told are the first lines, and how many more there are.
func told(all []string) []string {
	if n := len(all) - mostTold; n > 0 {
		return append(all[:mostTold:mostTold], fmt.Sprintf("and %d more", n))
	}
	return all
}

// sameTables are the tables of both nodes, and what one of them has alone.
func (d *Driver) sameTables(ctx context.Context, peer Peer) (all []cluster.RowsTable, lacking []string, err error) {
	differ, err := database.Stay(ctx, func(tell func(key, digest, what string) error) error {
		theirs, err := peer.Ask(ctx, cluster.RowsQuery{})
		if err == nil {
			err = d.applied(ctx, theirs.At)
		}
		if err != nil {
			return err
		}
		mine, err := d.tables(ctx)
		if err != nil {
			return err
		}
		here := map[string]bool{}
		for _, t := range mine {
			here[t.String()] = true
		}
		all = nil
		for _, t := range theirs.Tables {
			of := t.String()
			if here[of] {
				all = append(all, t)
			} else {
				err = errors.Join(err, tell(of, "there", string(peer.Here)+" has no such table"))
			}
			delete(here, of)
		}
		for of := range here {
			err = errors.Join(err, tell(of, "", string(peer.There)+" has no such table"))
		}
		return err
	}, func(context.Context) error { return nil }) // each look waits
	return all, sure(differ), err
}

// sure are the differences that stay.
func sure(all []database.Difference) (out []string) {
	for _, d := range all {
		if d.Sure {
			out = append(out, d.Key+": "+d.What)
		}
	}
	return out
}

// compare compares the rows of one table, and gives their number.
func (d *Driver) compare(ctx context.Context, peer Peer, t cluster.RowsTable) (n int64, differ []string, left string, err error) {
	var after []string
	altered := 0
	for limit := partRows; limit > 0; {
		began := time.Now()
		q := cluster.RowsQuery{Database: t.Database, Table: t.Table, After: after, Limit: limit}
		theirs, err := peer.Ask(ctx, q)
		if err != nil || theirs.Gone || theirs.Left != "" {
			return n, differ, theirs.Left, err // the next comparison tells of one that is gone
		}
		q.Until, q.Limit = theirs.Last, 0
		mine, err := d.after(ctx, q, theirs.At)
		switch {
		case err != nil || mine.Gone || mine.Left != "":
			return n, differ, mine.Left, err
		case mine.Shape != theirs.Shape:
			if altered++; altered < database.Sure { // it may be being altered
				continue
			}
			return n, append(differ, "its columns or its key are not the same on both nodes"), "", nil
		case theirs.Slow || mine.Slow:
			limit /= 4
			continue
		case mine.Count != theirs.Count || mine.Digest != theirs.Digest:
			what, err := d.unlike(ctx, peer, q)
			if err != nil {
				return n, differ, "", err
			}
			differ = append(differ, what...)
		}
		n += theirs.Count
		if after = theirs.Last; len(after) == 0 || len(differ) > mostDiff {
			return n, differ, "", nil
		}
		if !clock.Sleep(ctx, max(leastOf, restOf*time.Since(began))) {
			return n, differ, "", ctx.Err()
		}
	}
	return n, differ, "a row of it takes more than 4 s to read", nil
}

// after are rows of this node once it has applied all up to a position.
func (d *Driver) after(ctx context.Context, q cluster.RowsQuery, at string) (cluster.RowsPart, error) {
	if err := d.applied(ctx, at); err != nil {
		return cluster.RowsPart{}, err
	}
	return d.readRows(ctx, q)
}

// applied waits until this standby has applied all up to a position.
func (d *Driver) applied(ctx context.Context, at string) error {
	for {
		r, err := d.row(ctx, d.db, "SELECT MASTER_GTID_WAIT("+text(at)+", 1) AS missed")
		if err != nil || r["missed"] == "0" {
			return err
		}
		if !clock.Sleep(ctx, interval) {
			return ctx.Err()
		}
	}
}

// unlike names the rows of a part that differ for good.
func (d *Driver) unlike(ctx context.Context, peer Peer, q cluster.RowsQuery) (out []string, err error) {
	q.Each = true
	all, err := database.Stay(ctx, func(tell func(key, digest, what string) error) error {
		theirs, err := peer.Ask(ctx, q)
		if err != nil {
			return err
		}
		mine, err := d.after(ctx, q, theirs.At)
		if err != nil {
			return err
		}
		if theirs.Gone || mine.Gone || theirs.Slow || mine.Slow || theirs.Shape != mine.Shape ||
			len(theirs.Rows) == mostEach || len(mine.Rows) == mostEach {
			return nil // the next comparison tells
		}
		there := map[string]string{}
		for _, r := range theirs.Rows {
			there[r.Key] = r.Digest
		}
		for _, r := range mine.Rows {
			digest, is := there[r.Key]
			delete(there, r.Key)
			switch {
			case !is:
				err = errors.Join(err, tell(r.Key, "", string(peer.Here)+" alone has this row"))
			case digest != r.Digest:
				err = errors.Join(err, tell(r.Key, digest, "its values differ"))
			}
		}
		for key, digest := range there {
			err = errors.Join(err, tell(key, digest, string(peer.Here)+" lacks this row"))
		}
		return err
	}, func(context.Context) error { return nil }) // each look waits
	return sure(all), err
}
