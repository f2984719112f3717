package rebuild

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/internal/transition/net/neutron"
	"holdfast/internal/transition/net/rows"
)

// arrives is how long what the API has made may take to be in the database: it may be a node of a cluster of databases.
const arrives = 10 * time.Second

// another is the error of a database that is not the one behind an API.
func another(db *rows.Database, at API, why string) error {
	return fail.Errorf(fail.Refused, "%s is not the one behind %s: %s", db, at.Endpoint, why).
		With("Give that Neutron's own database, by --db and --db-name: connection in its neutron.conf names both. " +
			"Nothing was written into the database.")
}

// unproven is the error of a database of which nothing can show that it is the one behind an API.
func unproven(db *rows.Database, at API) error {
	return fail.Errorf(fail.Refused, "whether %s is the one behind %s is not known: neither has a network or an "+
		"agent, and Neutron has no address scopes", db, at.Endpoint).
		With("Make a network there, or start an agent, and give the same command again. Nothing was written.")
}

// agrees refuses a database that has other networks or agents than the API tells, or such that were made at other times. With none
// on either side it is not known whether it is the one behind the API.
func agrees(ctx context.Context, c *neutron.Client, db *rows.Database, at API) (known bool, err error) {
	before, err := db.Births(ctx)
	if err != nil {
		return false, err
	}
	tells, err := c.Births(ctx)
	if err != nil {
		return false, err
	}
	after, err := db.Births(ctx) // others may work on the platform meanwhile
	if err != nil {
		return false, err
	}
	for _, what := range slices.Sorted(maps.Keys(tells)) {
		was, had := before[what]
		is, has := after[what]
		made := tells[what]
		switch {
		case !had && !has:
			return false, another(db, at, what+" is told by the API, and is not in the database")
		case made != "" && was+is != "" && made != was && made != is:
			return false, another(db, at, what+" was made at "+made+" as the API tells, and at "+cmp.Or(is, was)+" as the database has it")
		}
	}
	for _, what := range slices.Sorted(maps.Keys(before)) {
		_, told := tells[what]
		if _, still := after[what]; still && !told {
			return false, another(db, at, what+" is in the database, and is not told by the API")
		}
	}
	return len(tells) > 0, nil
}

// proves has the API make something with a name that nobody can guess, looks for it in the database, and removes it by the API. The
// database may be a copy of the API's: so it is done whenever something is to be written.
func proves(ctx context.Context, c *neutron.Client, db *rows.Database, at API) (err error) {
	name := net.ProofPrefix + rand.Text()
	defer func() { err = errors.Join(err, c.Unmark(context.WithoutCancel(ctx))) }()
	if err := c.Mark(ctx, name); err != nil {
		return err
	}
	for begun := time.Now(); ; {
		there, err := db.Marked(ctx, name)
		if err != nil || there {
			return err
		}
		if time.Since(begun) > arrives {
			return another(db, at, "an address scope that the API has just made is not in the database")
		}
		if !clock.Sleep(ctx, arrives/50) {
			return ctx.Err()
		}
	}
}
