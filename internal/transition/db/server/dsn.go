package server

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	plain "holdfast/internal/lib/text"
)

// What a DSN may look like.
const (
	forms = "want USER:PASSWORD@tcp(HOST:PORT)/?..., USER@unix(/PATH)/?... or mysql://USER:PASSWORD@HOST:PORT/?..., " +
		"with @ in the parameters written %40" +
		", and in a mysql:// one every @ : / ? # % of user and password percent-encoded, too"
	maxDSN = 8 << 10 // bytes
	port   = "3306"  // MySQL's, as IANA has it
)

// address is what a DSN, or an option file, says of a server. Nothing of it is checked
// before it is whole.
type address struct {
	user, password string
	given          bool   // the password, which may be empty
	ask            bool   // for the password: an option file says so
	file           string // the option file; "": none
	net            string // tcp, unix; "" not said
	host, port     string // of tcp
	socket         string // of unix
	tls            security
	timeout        time.Duration
	read, write    time.Duration
	compress       bool
}

// parameter takes the value of a DSN's parameter.
type parameter func(a *address, value string) error

// parameters are all that a DSN may have, but for those of the option file.
var parameters = map[string]parameter{
	"tls":          func(a *address, v string) error { return a.tls.set(v) },
	"tls-ca":       func(a *address, v string) error { return path(&a.tls.ca, v) },
	"tls-cert":     func(a *address, v string) error { return path(&a.tls.cert, v) },
	"tls-key":      func(a *address, v string) error { return path(&a.tls.key, v) },
	"timeout":      func(a *address, v string) error { return duration(&a.timeout, v) },
	"readTimeout":  func(a *address, v string) error { return duration(&a.read, v) },
	"writeTimeout": func(a *address, v string) error { return duration(&a.write, v) },
	"compress": func(a *address, v string) error {
		b, ok := truth(v)
		if a.compress = b; !ok {
			return fmt.Errorf("value %.80q: want true or false", v)
		}
		return nil
	},
}

// Names of the parameters for an option file.
const (
	optionFile  = "option-file"
	optionGroup = "option-group"
)

func path(into *string, v string) error {
	if v == "" {
		return errors.New(`value "": want a path`)
	}
	*into = v
	return nil
}

func duration(into *time.Duration, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return fmt.Errorf("value %.80q: want a time above 0, such as 30s", v)
	}
	*into = d
	return nil
}

// truth reads true or false as servers' own programs do.
func truth(v string) (value, ok bool) {
	switch strings.ToLower(v) {
	case "1", "true", "on", "yes":
		return true, true
	case "0", "false", "off", "no":
		return false, true
	}
	return false, false
}

// PasswordEnv is the variable of the environment that has the password for a role, "" for
// both.
func PasswordEnv(role string) string {
	if role == "" {
		return "MYSQL_PWD" // as the servers' own clients have it
	}
	return "HOLDFAST_" + strings.ToUpper(role) + "_PASSWORD"
}

// fromEnv gives the password that the environment has.
func fromEnv(role string) (password string, given bool) {
	for _, name := range []string{PasswordEnv(role), PasswordEnv("")} {
		if password, given = os.LookupEnv(name); given {
			break
		}
	}
	return password, given
}

// configure makes the driver's configuration of a DSN.
func configure(role, dsn string, opt Options) (*mysql.Config, error) {
	a, err := parse(dsn)
	if err != nil {
		return nil, fmt.Errorf("DSN: %w", err)
	}
	if err := a.complete(); err != nil {
		return nil, err
	}
	if !a.given {
		a.password, a.given = fromEnv(role)
	}
	if !a.given && (a.file == "" || a.ask) && opt.Password != nil {
		if a.password, err = opt.Password(fmt.Sprintf("password of %s at %s (%s): ", a.user, a.where(), role)); err != nil {
			return nil, fmt.Errorf("password of %s at %s: %w", a.user, a.where(), err)
		}
	}
	return a.config()
}

// CheckDSN looks whether a text is a DSN. It opens nothing, and reads no file.
func CheckDSN(dsn string) error {
	a, err := parseWith(dsn, func(*address, string, string) error { return nil })
	if err == nil && a.port != "" {
		err = checkPort(a.port)
	}
	return err
}

// parse reads a DSN, and the option file that it names. Since it does not know what is
// the password in a text that it does not understand, no error shows such a text.
func parse(dsn string) (*address, error) { return parseWith(dsn, (*address).options) }

// parseWith has options take what the group of an option file says.
func parseWith(dsn string, options func(a *address, file, group string) error) (*address, error) {
	if len(dsn) > maxDSN {
		return nil, fmt.Errorf("has %d bytes: want at most %d", len(dsn), maxDSN)
	}
	if strings.ContainsFunc(dsn, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errors.New("has a control character: " + forms)
	}
	a := &address{}
	read := a.driver
	if strings.HasPrefix(dsn, "mysql://") {
		read = a.url
	}
	query, err := read(dsn)
	if err != nil {
		return nil, err
	}
	return a, a.query(query, options)
}

// driver reads USER:PASSWORD@NET(ADDRESS)/?PARAMETERS, where all but the / may be
// missing. User and password are taken as they are.
func (a *address) driver(dsn string) (query string, err error) {
	// A password may have any of the signs that part the rest. The parameters begin at
	// the last /? that has no @ behind it, and what is before its @ is user and password.
	rest := dsn
	if i := strings.LastIndex(dsn, "/?"); i >= 0 && !strings.Contains(dsn[i:], "@") {
		rest, query = dsn[:i+1], dsn[i+2:]
	}
	rest, ok := strings.CutSuffix(rest, "/")
	if !ok {
		return "", a.noEnd(dsn)
	}
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		a.user, a.password, a.given = strings.Cut(rest[:i], ":")
		rest = rest[i+1:]
	}
	return query, a.network(rest)
}

// noEnd is the error of a DSN that does not end at its /: mostly it names a database.
func (a *address) noEnd(dsn string) error {
	if i := strings.LastIndex(dsn, ")/"); i >= 0 && !strings.ContainsAny(dsn[i+2:], "@?") {
		return errors.New("has a database: want none after the /, databases are named by --source-db and --target-db")
	}
	return errors.New(forms)
}

// network reads tcp(HOST:PORT), unix(/PATH), tcp, or nothing.
func (a *address) network(text string) error {
	kind, in, ok := strings.Cut(text, "(")
	if ok {
		in, ok = strings.CutSuffix(in, ")")
	} else {
		ok = kind == "" || kind == "tcp"
	}
	switch {
	case !ok:
		return errors.New(forms)
	case kind == "unix" && in != "":
		a.net, a.socket = kind, in
		return nil
	case kind == "tcp" && in != "":
		return a.hostPort(in)
	case text == "" || text == "tcp":
		a.net = kind
		return nil
	}
	return errors.New(forms)
}

// hostPort reads HOST, HOST:PORT, [IPv6] or [IPv6]:PORT.
func (a *address) hostPort(text string) error {
	a.net = "tcp"
	if in, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(in, "]") {
		a.host = strings.TrimSuffix(in, "]")
		return nil
	}
	if !strings.Contains(text, ":") {
		a.host = text
		return nil
	}
	var err error
	if a.host, a.port, err = net.SplitHostPort(text); err != nil {
		return errors.New("the address is not understood: want HOST:PORT, or [IPv6]:PORT")
	}
	return nil
}

// url reads mysql://USER:PASSWORD@HOST:PORT/?PARAMETERS.
func (a *address) url(dsn string) (query string, err error) {
	u, err := url.Parse(dsn)
	// The error of url.Parse shows the text. After an @ or # in the path or the
	// parameters, or with a doubled @, what came before was not what it seems.
	if err != nil || u.Opaque != "" || strings.Contains(dsn, "#") || strings.Count(dsn, "@") > 1 ||
		strings.Contains(u.Path+u.RawQuery, "@") {
		return "", errors.New(forms)
	}
	if u.Path != "" && u.Path != "/" {
		return "", errors.New("has a database: want none after the /, databases are named by --source-db and --target-db")
	}
	if u.User != nil {
		a.user = u.User.Username()
		a.password, a.given = u.User.Password()
	}
	if a.host, a.port = u.Hostname(), u.Port(); a.host != "" {
		a.net = "tcp"
	} else if a.port != "" {
		return "", errors.New("has a port and no host: " + forms)
	}
	return u.RawQuery, nil
}

// query reads the parameters, and then the option file: what the DSN says counts.
func (a *address) query(text string, options func(a *address, file, group string) error) error {
	values := map[string]string{}
	for part := range strings.SplitSeq(text, "&") {
		name, value, ok := strings.Cut(part, "=")
		switch _, twice := values[name]; {
		case part == "":
			continue
		case !word(name) || !known(name):
			return fmt.Errorf("parameter %s: want one of %s", shown(name), strings.Join(names(), ", "))
		case !ok:
			return fmt.Errorf("parameter %s: want %s=VALUE", name, name)
		case twice:
			return fmt.Errorf("parameter %s: is given twice", name)
		}
		// As a path: a + stays a +.
		v, err := url.PathUnescape(value)
		if err != nil {
			return fmt.Errorf("parameter %s: want %% only before two hexadecimal digits, else %%25", name)
		}
		values[name] = v
	}
	for _, name := range names() {
		v, ok := values[name]
		take, own := parameters[name]
		if !ok || !own {
			continue
		}
		if err := take(a, v); err != nil {
			return fmt.Errorf("parameter %s: %w", name, err)
		}
	}
	file, ok := values[optionFile]
	group, named := values[optionGroup]
	switch {
	case !ok && named:
		return fmt.Errorf("parameter %s: want it together with %s", optionGroup, optionFile)
	case !ok:
		return nil
	case file == "":
		return fmt.Errorf("parameter %s: value \"\": want a path", optionFile)
	}
	return options(a, file, cmp.Or(group, "client"))
}

func known(name string) bool { return slices.Contains(names(), name) }

// word tells whether a name may be shown: what does not look like one may be a secret.
func word(name string) bool {
	return name != "" && len(name) <= 64 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func shown(name string) string {
	if word(name) {
		return strconv.Quote(name)
	}
	return "(not shown)"
}

// names are all parameters, in order.
func names() []string {
	out := []string{optionFile, optionGroup}
	for name := range parameters {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// complete checks what DSN and option file say together, and fills in what they need not.
func (a *address) complete() error {
	switch {
	case a.user == "" && a.file != "":
		return fmt.Errorf("option file %s: user: value \"\": want user=NAME in its group, or USER@ in the DSN", a.file)
	case a.user == "":
		return errors.New("DSN: has no user, and there is none in an option file: want USER@..., or option-file=PATH")
	case a.net == "" && a.socket != "" && (a.host == "" || a.host == "localhost"):
		a.net = "unix" // as the servers' own programs do
	case a.net == "":
		a.net = "tcp"
	case a.net == "unix" && a.socket == "":
		return fmt.Errorf("option file %s: protocol is socket: want socket=PATH, too", a.file)
	}
	a.host, a.port = cmp.Or(a.host, "127.0.0.1"), cmp.Or(a.port, port)
	if a.net == "tcp" {
		return checkPort(a.port)
	}
	return nil
}

func checkPort(port string) error {
	if !plain.Port(port) {
		return fmt.Errorf("port %.20q: want 1 to 65535", port)
	}
	return nil
}

// where is the server's address, for people and for the driver.
func (a *address) where() string {
	if a.net == "unix" {
		return a.socket
	}
	return net.JoinHostPort(a.host, a.port)
}

// dial is how long a server may take to be reached, unless the DSN says.
const dial = 10 * time.Second

func (a *address) config() (*mysql.Config, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = a.user, a.password, a.net, a.where()
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = cmp.Or(a.timeout, dial), a.read, a.write
	cfg.MaxAllowedPacket = 0        // the server's own
	cfg.Logger = &mysql.NopLogger{} // what it would print comes back as an error, too
	var err error
	if cfg.TLS, err = a.tls.config(a.host); err != nil {
		return nil, err
	}
	cfg.AllowFallbackToPlaintext = a.tls.mode == preferred
	// A server may be told to leave the charset of the first packet alone: it is asked
	// for by a statement. The collation is one that every version knows.
	return cfg, cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci"), mysql.EnableCompression(a.compress))
}
