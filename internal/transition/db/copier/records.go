package copier

import (
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"

	"holdfast/internal/transition/db/mapping"
)

// records reads the rows of the source, one at a time.
type records struct {
	rows   *sql.Rows
	forms  []mapping.Form
	values []sql.RawBytes // of the row that was read; nil is NULL
	into   []any
	n      int64 // rows read
}

func newRecords(rows *sql.Rows, forms []mapping.Form) *records {
	r := &records{rows: rows, forms: forms, values: make([]sql.RawBytes, len(forms)), into: make([]any, len(forms))}
	for i := range r.values {
		r.into[i] = &r.values[i]
	}
	return r
}

// next reads a row; false: there are no more.
func (r *records) next() (bool, error) {
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return false, fmt.Errorf("source: %w", err)
		}
		return false, nil
	}
	if err := r.rows.Scan(r.into...); err != nil {
		return false, fmt.Errorf("source: %w", err)
	}
	r.n++
	return true, nil
}

// lines are rows as LOAD DATA reads them. They are made as they are asked for, so that
// there is never more of them than one reading holds and one row.
type lines struct {
	*records
	left []byte // made, and not read yet
	buf  []byte
	err  error // after left
}

func (l *lines) Read(p []byte) (int, error) {
	if len(l.left) == 0 {
		l.fill(len(p))
	}
	n := copy(p, l.left)
	l.left = l.left[n:]
	if n == 0 {
		return 0, l.err
	}
	return n, nil
}

// fill makes at least so many bytes, or all that are left.
func (l *lines) fill(atLeast int) {
	l.buf = l.buf[:0]
	for l.err == nil && len(l.buf) < atLeast {
		ok, err := l.next()
		switch {
		case err != nil:
			l.err = err
		case !ok:
			l.err = io.EOF
		default:
			l.buf = appendLine(l.buf, l.values, l.forms)
		}
	}
	l.left = l.buf
}

// appendLine writes a row with \t between values, \n at its end and \N for NULL.
func appendLine(b []byte, values []sql.RawBytes, forms []mapping.Form) []byte {
	for i, v := range values {
		if i > 0 {
			b = append(b, '\t')
		}
		switch {
		case v == nil:
			b = append(b, '\\', 'N')
		case forms[i] == mapping.AsHex:
			b = hex.AppendEncode(b, v)
		default:
			b = appendEscaped(b, v)
		}
	}
	return append(b, '\n')
}

// appendEscaped puts a backslash before itself, and before what would end the value.
func appendEscaped(b, v []byte) []byte {
	from := 0
	for i, c := range v {
		as := c
		switch c {
		case '\\', '\t', '\n':
		case 0:
			as = '0'
		default:
			continue
		}
		b = append(append(b, v[from:i]...), '\\', as)
		from = i + 1
	}
	return append(b, v[from:]...)
}

// appendTuple writes a row as INSERT has it. In our sessions a backslash escapes.
func appendTuple(b []byte, values []sql.RawBytes, forms []mapping.Form) []byte {
	for i, v := range values {
		if i == 0 {
			b = append(b, '(')
		} else {
			b = append(b, ',')
		}
		switch {
		case v == nil:
			b = append(b, "NULL"...)
		case forms[i] == mapping.AsNumber:
			b = append(b, v...)
		case forms[i] == mapping.AsHex:
			b = append(hex.AppendEncode(append(b, 'X', '\''), v), '\'')
		default:
			b = appendQuoted(b, v)
		}
	}
	return append(b, ')')
}

func appendQuoted(b, v []byte) []byte {
	b = append(b, '\'')
	for _, c := range v {
		switch c {
		case '\'', '\\':
			b = append(b, '\\', c)
		case 0:
			b = append(b, '\\', '0')
		default:
			b = append(b, c)
		}
	}
	return append(b, '\'')
}
