package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file says what rows must be asked before they are copied, because types do not
// tell it.

// Lookup is a value that is looked up among the IDs of its kind.
type Lookup struct {
	Kind, Column string
	Within       bool   // it is not the column's value, but a part of it
	Values       string // statement: the values other than NULL, each once; it needs no staged IDs
	Missing      string // statement: the values that have none, each once; "" where there is a line for all others
	value, found string // SQL
}

// RowCheck is something that rows may have. Where it is one of Planned.Checks, there must
// be none that have it.
type RowCheck struct {
	Column  string
	Have    string // what, for people
	Becomes string // what is done about it, for people; of Checks, where both sides are one server
	Count   string // statement: how many rows have it
	Keys    string // statement: the keys of the first of these rows, as Planned.Key has them
	cond    string // SQL
	value   string // SQL of the value that cond is about, as it stands there; "" of Zeros
}

// Looks is the statement that counts the rows (more as for Select), and those that have
// what each of Checks and then each of Zeros is about: one row of so many numbers. It takes
// one walk through the rows. Values that are dear are kept as they are made; what stands
// beside them says how long they may be, since MariaDB believes those of JSON_SET and
// JSON_REMOVE to be shorter than they are, and cuts them.
func (p *Planned) Looks(more string) string {
	sums, parts, dear := []string{"COUNT(*)"}, []string(nil), p.dear()
	for i, v := range dear {
		parts = append(parts, fmt.Sprintf("IF(FALSE, REPEAT(' ', 16777216), %s) AS v%d", v, i))
	}
	for i, c := range slices.Concat(p.Checks, p.Zeros) {
		cond := c.cond
		if v := slices.Index(dear, c.value); v >= 0 {
			cond = strings.ReplaceAll(cond, c.value, fmt.Sprintf("r.v%d", v))
		} else if dear != nil {
			parts = append(parts, fmt.Sprintf("%s AS c%d", cond, i))
			cond = fmt.Sprintf("r.c%d", i)
		}
		sums = append(sums, "COALESCE(SUM(CASE WHEN "+cond+" THEN 1 ELSE 0 END), 0)")
	}
	rows := p.unstaged(more)
	if dear != nil {
		rows = " FROM (SELECT " + strings.Join(parts, ", ") + rows + everyRow + ") AS r"
	}
	return "SELECT " + strings.Join(sums, ", ") + rows
}

// everyRow has the server make each row of a table in parentheses once: without it, it
// would put an expression wherever its name stands.
const everyRow = " LIMIT 18446744073709551615"

// Spacious reports whether Looks has the source's server keep values of all rows that it is
// asked about: these should be few at a time.
func (p *Planned) Spacious() bool { return p.dear() != nil }

// dearLength is from which length on the SQL of a value is taken to need more time to be
// made than to be kept: those of plain functions are shorter, documents are longer.
const dearLength = 500

// dear are the values that the conditions of Looks have several times, and that take longer
// to make than to keep.
func (p *Planned) dear() (out []string) {
	times := map[string]int{}
	for _, c := range p.Checks {
		if len(c.value) < dearLength {
			continue
		}
		if times[c.value] += strings.Count(c.cond, c.value); times[c.value] > 1 && !slices.Contains(out, c.value) {
			out = append(out, c.value)
		}
	}
	return out
}

// lookup looks a value up among the IDs of a kind. NULL stays NULL.
func (x *planner) lookup(l Lookup) string {
	as := sqlexpr.Quote(fmt.Sprintf("ids%d", len(x.staged)+1))
	x.staged = append(x.staged, " LEFT JOIN "+sqlexpr.Quote(staging)+"."+sqlexpr.Quote("ids_"+l.Kind)+" AS "+as+" ON "+
		as+".`old` = "+asID(l.value))
	l.found = as + ".`new`"
	if x.ids[l.Kind].Default {
		other := "(SELECT `new` FROM " + sqlexpr.Quote(staging) + ".`ids_default` WHERE `kind` = " + sqlexpr.Literal(l.Kind) + ")"
		x.out.Others = append(x.out.Others, l)
		return "IF(" + l.value + " IS NULL, NULL, COALESCE(" + l.found + ", " + other + "))"
	}
	x.out.Lookups = append(x.out.Lookups, l)
	return l.found
}

// asID writes a value so that it compares as IDs do.
func asID(value string) string { return "CONVERT(" + value + " USING utf8mb4) COLLATE utf8mb4_bin" }

// fits looks at a column that is copied into another.
func (x *planner) fits(value string, from, to *column.Column) {
	fit := column.Fits(*from, *to)
	if slices.Contains(x.t.Measure, to.Name) {
		x.measure(value, from, to)
	} else {
		for _, why := range fit.Narrow {
			x.error(to.Name, "%s", why)
		}
	}
	for _, what := range fit.Changes {
		x.plan.Warnings = append(x.plan.Warnings, Finding{x.t.Name(), to.Name, what})
	}
	if fit.Lacks != "" {
		x.plan.Warnings = append(x.plan.Warnings, Finding{x.t.Name(), to.Name, fit.Lacks})
		x.lacks(value, to)
	}
	if from.Nullable {
		x.mayNotBeNull(to, value)
	}
	switch from.Type.Kind {
	case column.Enum:
		if to.Type.Kind == column.Enum && !slices.Contains(to.Type.Words, "") {
			x.check(to, "a value that is none of "+from.Type.Text+", stored as ''", value+" + 0 = 0", value)
			x.asItIs(from, to)
		}
	case column.Date, column.DateTime, column.Stamp:
		if timed(to) {
			x.check(to, "a date that no calendar has, such as 2015-02-30",
				"DAYOFMONTH("+value+") > 28 AND CAST(CAST("+value+" AS CHAR) AS DATETIME) IS NULL", value)
			x.asItIs(from, to)
		}
		becomes := carried
		if x.noZeroDates && to.Nullable {
			becomes = "they become NULL"
		}
		x.out.Zeros = append(x.out.Zeros, RowCheck{Column: to.Name, Have: "a date that is none, such as 0000-00-00",
			Becomes: becomes, cond: noDate(value)})
	}
}

// noDate is the condition that a date is none that a calendar has, as servers without
// strict mode stored them: a part of it is 0.
func noDate(value string) string {
	return "(MONTH(" + value + ") = 0 OR DAYOFMONTH(" + value + ") = 0)"
}

// dated writes a value that is a column of the source: NULL for dates that are none, where the mapping
// says so.
func (x *planner) dated(value, name string, from *column.Column) string {
	to, ok := x.to.column(name)
	if !x.noZeroDates || !ok || !to.Nullable {
		return value
	}
	switch from.Type.Kind {
	case column.Date, column.DateTime, column.Stamp:
		return "IF(" + noDate(value) + ", NULL, " + value + ")"
	}
	return value
}

// made looks at a value that an expression makes, whose type nothing tells.
func (x *planner) made(value string, to *column.Column) {
	x.mayNotBeNull(to, value)
	switch to.Type.Kind {
	case column.Bytes:
		x.check(to, "a text that is too long for "+to.Type.Text,
			fmt.Sprintf("LENGTH(%s) > %d", value, cmp.Or(to.Type.Length, to.Type.Limit)), value)
	case column.Char:
		x.tooLong(value, to)
		if !strings.HasPrefix(to.Charset, "utf8mb4") {
			x.lacks(value, to)
		}
	}
	x.mustBe(value, to)
}

// mustBe has rows looked for whose value is none of the target's type: a strict server takes
// no such, and one that is not strict may have them. What a server takes besides the words of
// an ENUM or SET is the number of one.
func (x *planner) mustBe(value string, to *column.Column) {
	if _, err := strconv.Atoi(value); err == nil && to.Type.Kind == column.Integer {
		return
	}
	text := "CONVERT(" + value + " USING utf8mb4)"
	number := text + " REGEXP '^ *[-+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][-+]?[0-9]+)? *$'"
	var cond string
	switch t := to.Type; t.Kind {
	case column.Enum, column.Set:
		set, collation, _ := x.source.collation(to.Charset, to.Collation)
		as := "CONVERT(" + value + " USING " + set + ") COLLATE " + collation
		words := make([]string, 0, len(t.Words))
		for _, w := range t.Words {
			words = append(words, sqlexpr.Literal(w))
		}
		cond = as + " NOT IN (" + strings.Join(words, ", ") + ")"
		if t.Kind == column.Set { // each word between commas of its own
			left := "CONCAT(',', REPLACE(LOWER(" + text + "), ',', ',,'), ',')"
			for _, w := range words {
				left = "REPLACE(" + left + ", LOWER(CONCAT(',', " + w + ", ',')), '')"
			}
			cond = text + " <> '' AND " + left + " <> ''"
		}
		cond = "NOT (" + number + ") AND " + cond
	case column.Integer:
		cond = "NOT (" + number + ")"
		if low, high, ok := bounds(t); ok {
			cond += fmt.Sprintf(" OR %s + 0 < %d OR %s + 0 > %d", value, low, value, high)
		} else { // a text and a number compare as floating numbers, which are not exact here
			cond += " OR CAST(" + value + " AS DECIMAL(40)) NOT BETWEEN " +
				map[bool]string{true: "0 AND 18446744073709551615", false: "-9223372036854775808 AND 9223372036854775807"}[t.Unsigned]
		}
	case column.Decimal:
		cond = "NOT (" + number + ")"
		if n := t.Digits - t.Scale; n <= mostDigits {
			cond += " OR ABS(CAST(" + value + " AS DECIMAL(65," + strconv.Itoa(65-mostDigits) + "))) >= 1" + strings.Repeat("0", n)
		}
		cond += negative(value, t)
	case column.Float:
		cond = "NOT (" + number + ")"
		if t.Bits == 24 {
			cond += " OR ABS(" + value + " + 0) > 3.402823466e38"
		}
		cond += negative(value, t)
	case column.Time:
		cond = "CAST(" + text + " AS TIME) IS NULL"
	case column.Date, column.DateTime, column.Stamp:
		cond = "CAST(" + text + " AS DATETIME) IS NULL"
	default:
		return
	}
	x.check(to, "a value that is none of "+to.Type.Text, value+" IS NOT NULL AND ("+cond+")", value)
}

// mostDigits is how many digits before the point are looked at: a server has 65 in all.
const mostDigits = 35

// negative is the condition that a number is one that a type does not have, to be added.
func negative(value string, t column.Type) string {
	if !t.Unsigned {
		return ""
	}
	return " OR " + value + " + 0 < 0"
}

// bounds are the numbers of an integer type, but for the largest: no text compares with them
// exactly.
func bounds(t column.Type) (low, high int64, ok bool) {
	if t.Bits > 32 {
		return 0, 0, false
	}
	if t.Unsigned {
		return 0, 1<<t.Bits - 1, true
	}
	return -1 << (t.Bits - 1), 1<<(t.Bits-1) - 1, true
}

// timed reports whether a column holds dates.
func timed(c *column.Column) bool {
	return c.Type.Kind == column.Date || c.Type.Kind == column.DateTime || c.Type.Kind == column.Stamp
}

// notMeasured warns of a value that is measured as it was before parts of it are looked
// up: staged IDs, which could tell, are not there yet.
func (x *planner) notMeasured(to *column.Column) {
	if x.out.within(to.Name) && (!to.Nullable || to.Type.Kind == column.Char) {
		x.plan.Warnings = append(x.plan.Warnings, Finding{x.t.Name(), to.Name,
			"a part of it is looked up: whether what it becomes is NULL or too long is not looked at before the run, " +
				"only what it is with the old values"})
	}
}

// mayNotBeNull has rows looked for that have no value where the target wants one.
func (x *planner) mayNotBeNull(to *column.Column, value string) {
	if !to.Nullable {
		x.check(to, "NULL, which the target does not allow", value+" IS NULL", value)
	}
}

// lacks has rows looked for with characters that the target's character set has not:
// they do not come back from it.
func (x *planner) lacks(value string, to *column.Column) {
	if !word().MatchString(to.Charset) {
		x.error(to.Name, "character set %q is not known", to.Charset)
		return
	}
	there := "CAST(CONVERT(" + value + " USING utf8mb4) AS BINARY)"
	back := "CAST(CONVERT(CONVERT(" + value + " USING " + to.Charset + ") USING utf8mb4) AS BINARY)"
	x.check(to, "characters that "+to.Charset+" does not have", there+" <> "+back, value)
}

// measure has the rows of a column looked at whose type is too narrow.
func (x *planner) measure(value string, from, to *column.Column) {
	if from.Type.Kind != column.Char || to.Type.Kind != column.Char || !word().MatchString(to.Charset) {
		x.error(to.Name, "%s can not be measured for %s: only texts can", from.Type.Text, to.Type.Text)
		return
	}
	x.tooLong(value, to)
}

func (x *planner) tooLong(value string, to *column.Column) {
	over := fmt.Sprintf("CHAR_LENGTH(%s) > %d", value, to.Type.Length)
	if to.Type.Length == 0 {
		over = fmt.Sprintf("LENGTH(CONVERT(%s USING %s)) > %d", value, to.Charset, to.Type.Limit)
	}
	x.check(to, "a text that is too long for "+to.Type.Text, over, value)
}

func (x *planner) check(to *column.Column, have, cond, value string) {
	x.out.Checks = append(x.out.Checks, RowCheck{Column: to.Name, Have: have, cond: cond, value: value})
}

// carried is what becomes of values that no server would take as such.
const carried = "they are carried over as they are"

// asItIs says of the last check that one server copies what it is about into a column of the
// same type.
func (x *planner) asItIs(from, to *column.Column) {
	if from.Type.Text == to.Type.Text && from.Collation == to.Collation {
		x.out.Checks[len(x.out.Checks)-1].Becomes = carried
	}
}

// finish writes the statements that look at the rows.
func (x *planner) finish() {
	p := &x.out
	if p.Kept = x.kept(); p.window.shift > 0 {
		p.Kept = []string{p.window.key}
	}
	p.Collisions = x.collisions()
	list := strings.Join(owns(p.Key), ", ")
	for _, checks := range [][]RowCheck{p.Checks, p.Zeros} {
		for i := range checks {
			c := &checks[i]
			c.Count = "SELECT COUNT(*)" + p.unstaged(c.cond)
			c.Keys = fmt.Sprintf("SELECT %s%s ORDER BY %s LIMIT %d", list, p.unstaged(c.cond), list, listed)
		}
	}
	for _, lookups := range [][]Lookup{p.Lookups, p.Others} {
		for i := range lookups {
			l := &lookups[i]
			l.Values = "SELECT DISTINCT " + asID(l.value) + p.unstaged(l.value+" IS NOT NULL")
		}
	}
	for i := range p.Lookups {
		l := &p.Lookups[i]
		l.Missing = "SELECT DISTINCT " + l.value + p.unknown(l, "")
	}
}
