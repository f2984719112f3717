package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Question is a check of a mapping, as one of the sides is asked it. Whichever it is, it is
// asked in a transaction in which nothing can be written.
type Question struct {
	Rows string // statement: the rows that break it; with Want, the values that there are
	Want string // statement of the source, "" for none: values, each of which is to be among those of Rows
}

// Broken are the rows that break a check.
type Broken struct {
	Rows    int64    // how many
	Columns []string // what Keys are made of
	Keys    []string // of the first rows: their values, for people
}

// Ask asks a side, which may be the source, and keeps the first few rows.
func (q Question) Ask(ctx context.Context, source, side *Server, few int) (b Broken, err error) {
	tx, err := side.DB.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return b, err
	}
	if q.Want != "" {
		err = b.among(ctx, source.DB, tx, q, few)
	} else {
		err = b.Ask(ctx, tx, q.Rows, few)
	}
	return b, errors.Join(err, tx.Rollback())
}

// among looks which values of the source are not there.
func (b *Broken) among(ctx context.Context, source, side Querier, q Question, few int) error {
	want := map[string]bool{}
	err := Walk(ctx, source, q.Want, func(row []sql.RawBytes) error {
		want[string(row[0])] = true
		return nil
	})
	if err == nil {
		err = Walk(ctx, side, q.Rows, func(row []sql.RawBytes) error {
			delete(want, string(row[0]))
			return nil
		})
	}
	b.Rows, b.Columns = int64(len(want)), []string{"value"}
	for _, value := range slices.Sorted(maps.Keys(want))[:min(len(want), few)] {
		b.Keys = append(b.Keys, ForPeople(value))
	}
	return err
}

// Ask counts the rows of a statement, and keeps the first few.
func (b *Broken) Ask(ctx context.Context, q Querier, query string, few int) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	if b.Columns, err = rows.Columns(); err != nil {
		return errors.Join(err, rows.Close())
	}
	values, into := make([]sql.NullString, len(b.Columns)), make([]any, len(b.Columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if b.Rows++; b.Rows > int64(few) {
			continue
		}
		if err := rows.Scan(into...); err != nil {
			return errors.Join(err, rows.Close())
		}
		key := make([]string, 0, len(values))
		for _, v := range values {
			if !v.Valid {
				v.String = "NULL"
			}
			key = append(key, ForPeople(v.String))
		}
		b.Keys = append(b.Keys, strings.Join(key, ", "))
	}
	return errors.Join(rows.Err(), rows.Close())
}

// ForPeople is a value as it is told: what is no text that can be read in hexadecimal.
func ForPeople(v string) string {
	switch {
	case v == "":
		return "''"
	case !Readable(v):
		return fmt.Sprintf("X'%X'", v)
	}
	return v
}

// Readable reports whether a value is a text without control characters.
func Readable(v string) bool {
	return utf8.ValidString(v) && !strings.ContainsFunc(v, unicode.IsControl)
}
