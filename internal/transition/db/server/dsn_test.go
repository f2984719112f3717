package server

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// secret is in many DSNs below, and in no error.
const secret = "hunter2"

func TestDSN(t *testing.T) {
	for _, c := range []struct{ dsn, want string }{ // USER|PASSWORD|NET|ADDRESS
		{"u:" + secret + "@tcp(db.example:3307)/", "u|hunter2|tcp|db.example:3307"},
		{"u:@tcp(db)/", "u||tcp|db:3306"},
		{"u:x@tcp([::1]:3307)/", "u|x|tcp|[::1]:3307"},
		{"u:x@tcp([::1])/?timeout=3s", "u|x|tcp|[::1]:3306"},
		{"u:x@tcp/", "u|x|tcp|127.0.0.1:3306"},
		{"u:x@/", "u|x|tcp|127.0.0.1:3306"},
		{"u:x@unix(/run/my sql.sock)/?timeout=3s", "u|x|unix|/run/my sql.sock"},
		// Whatever a password has in it.
		{"u:a:b@c/?d=e&f#g%h(i)/@tcp(db)/", "u|a:b@c/?d=e&f#g%h(i)/|tcp|db:3306"},
		{"u:a/?b@c@unix(/s)/?compress=true", "u|a/?b@c|unix|/s"},
		{"mysql://u:" + secret + "@db.example:3307/", "u|hunter2|tcp|db.example:3307"},
		{"mysql://u:x@db.example", "u|x|tcp|db.example:3306"},
		{"mysql://u%40v:a%3Ab%40c%2Fd%3F%23%25+%20@[fe80::1]:3307/?timeout=3s", "u@v|a:b@c/d?#%+ |tcp|[fe80::1]:3307"},
		{"mysql://u:x@[::1]/", "u|x|tcp|[::1]:3306"},
	} {
		cfg, err := configure("source", c.dsn, Options{})
		if err != nil {
			t.Errorf("%s: %v", c.dsn, err)
			continue
		}
		if got := fmt.Sprintf("%s|%s|%s|%s", cfg.User, cfg.Passwd, cfg.Net, cfg.Addr); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.dsn, got, c.want)
		}
		if cfg.DBName != "" || cfg.TLS != nil {
			t.Errorf("%s: database %q, TLS %v", c.dsn, cfg.DBName, cfg.TLS)
		}
	}
}

func TestDSNErrors(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ dsn, want string }{
		{"", "want USER:PASSWORD@tcp(HOST:PORT)/?..."},
		{"u:hunter2@db:3306", "want USER:PASSWORD@tcp"},
		{"u:hunter2@db:3306/", "want USER:PASSWORD@tcp"},
		{"u:hunter2@tcp(db:3306/", "want USER:PASSWORD@tcp"},
		{"u:hunter2@udp(db:3306)/", "want USER:PASSWORD@tcp"},
		{"u:hunter2@tcp(a:b:c)/", "want HOST:PORT"},
		{"u:x@tcp(db:0)/", `port "0": want 1 to 65535`},
		{"u:x@tcp(db:65536)/", `port "65536": want 1 to 65535`},
		{"u:x@tcp(db:http)/", `port "http": want 1 to 65535`},
		{"u:x@tcp(db)/nova", "--source-db and --target-db"},
		{"mysql://u:x@db/nova", "--source-db and --target-db"},
		{"mysql://u:hunter2/x@db/", "want USER:PASSWORD@tcp"},
		{"mysql://u:1/hunter2@db/", "percent-encoded"},
		{"mysql://u:1?hunter2@db/", "percent-encoded"},
		{"mysql://u:1#hunter2@db/", "percent-encoded"},
		{"mysql://u:hunter2@x@db/", "percent-encoded"},
		{"mysql://u:hunter%2@db/", "percent-encoded"},
		{"mysql://u:x@:3306/", "has a port and no host"},
		{"tcp(db)/", "has no user"},
		{"mysql://db/", "has no user"},
		{":hunter2@tcp(db)/", "has no user"},
		{"u:hunter2@tcp(db)/?multiStatements=true", `parameter "multiStatements": want one of compress, option-file,`},
		{"u:hunter2@tcp(db)/?hunter2!=true", "parameter (not shown): want one of"},
		{"u:hunter2@tcp(db)/?tls", "want tls=VALUE"},
		{"u:hunter2@tcp(db)/?tls=yes", `tls: value "yes": want true, skip-verify, preferred or false`},
		{"u:hunter2@tcp(db)/?tls=true&tls=false", "tls: is given twice"},
		{"u:hunter2@tcp(db)/?tls=%zz", "want % only before"},
		{"u:hunter2@tcp(db)/?timeout=0s", `timeout: value "0s": want a time above 0`},
		{"u:hunter2@tcp(db)/?timeout=5", `timeout: value "5": want a time above 0`},
		{"u:hunter2@tcp(db)/?compress=maybe", `compress: value "maybe": want true or false`},
		{"u:hunter2@tcp(db)/?tls=false&tls-ca=/x", "want one or the other"},
		{"u:hunter2@tcp(db)/?tls=skip-verify&tls-ca=/x", "want tls=true, or no tls-ca"},
		{"u:hunter2@tcp(db)/?tls-cert=/x", "want tls-cert and tls-key together"},
		{"u:hunter2@tcp(db)/?tls-ca=", `tls-ca: value "": want a path`},
		{"u:hunter2@tcp(db)/?tls-ca=" + dir + "/none", "tls-ca: open"},
		{"u:hunter2@tcp(db)/?tls-cert=" + dir + "/none&tls-key=" + dir + "/none", "tls-cert " + dir},
		{"u:hunter2@tcp(db)/?option-group=x", "want it together with option-file"},
		{"u:hunter2@tcp(db)/?option-file=", `option-file: value "": want a path`},
		{"u:hunter2@tcp(db)/?option-file=" + dir + "/none", "option file: open"},
		{"u:hunter2@tcp(db)/?option-file=" + dir, "is a directory"},
		{"u:hunter2\n@tcp(db)/", "has a control character"},
		{strings.Repeat("hunter2", 2000), "want at most 8192"},
	} {
		_, err := configure("source", c.dsn, Options{Password: func(string) (string, error) {
			return "", errors.New("nobody may be asked")
		}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: want %q", c.dsn, err, c.want)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows the password: %v", c.dsn, err)
		}
	}
}

// TestPasswordIsAsked: only where it is said nowhere.
func TestPasswordIsAsked(t *testing.T) {
	with := optionsFile(t, 0o600, "[client]\nuser=u\npassword=filed\n[none]\nuser=u\n[empty]\nuser=u\npassword=\n[ask]\nuser=u\npassword\n[bare]\nport=7\n[passonly]\npassword=filed\n")
	for _, c := range []struct{ dsn, prompt, password string }{
		{"u@tcp(db:7)/", "password of u at db:7 (target): ", "typed"},
		{"mysql://u@[::1]/", "password of u at [::1]:3306 (target): ", "typed"},
		{"u@unix(/s)/", "password of u at /s (target): ", "typed"},
		{"u:@tcp(db)/", "", ""},
		{"mysql://u:@db/", "", ""},
		{"/?option-file=" + with, "", "filed"},
		{"u@/?option-file=" + with, "", "filed"},
		{"u:own@/?option-file=" + with, "", "own"},
		{"v@/?option-file=" + with, "password of v at 127.0.0.1:3306 (target): ", "typed"}, // not u's
		{"/?option-file=" + with + "&option-group=none", "", ""},
		{"/?option-file=" + with + "&option-group=empty", "", ""},
		{"/?option-file=" + with + "&option-group=ask", "password of u at 127.0.0.1:3306 (target): ", "typed"},
		{"v@/?option-file=" + with + "&option-group=bare", "", ""},
		{"v@/?option-file=" + with + "&option-group=passonly", "", "filed"},
	} {
		prompt := ""
		cfg, err := configure("target", c.dsn, Options{Password: func(p string) (string, error) { prompt = p; return "typed", nil }})
		if err != nil || prompt != c.prompt || cfg.Passwd != c.password {
			t.Errorf("%s: asked %q, password %q, %v: want %q, %q", c.dsn, prompt, cfg.Passwd, err, c.prompt, c.password)
		}
	}
	_, err := configure("target", "u@tcp(db:7)/", Options{Password: func(string) (string, error) { return "", errors.New("no terminal") }})
	if err == nil || err.Error() != "password of u at db:7: no terminal" {
		t.Errorf("error %v", err)
	}
	if cfg, err := configure("target", "u@tcp(db:7)/", Options{}); err != nil || cfg.Passwd != "" {
		t.Errorf("nobody to be asked: %v, %v", cfg, err)
	}
}

// TestPasswordsOfTheEnvironment: that of the role counts before that of both, and what is
// said elsewhere before both.
func TestPasswordsOfTheEnvironment(t *testing.T) {
	with := optionsFile(t, 0o600, "[client]\nuser=u\npassword=filed\n[none]\nuser=u\n[ask]\nuser=u\npassword\n")
	asked := func(string) (string, error) { return "", errors.New("asked") }
	for _, c := range []struct{ dsn, both, target, want string }{
		{"u@tcp(db:7)/", "both", "", "both"},
		{"u@tcp(db:7)/", "both", "own", "own"},
		{"u@tcp(db:7)/", "", "own", "own"},
		{"u:given@tcp(db:7)/", "both", "own", "given"},
		{"u:@tcp(db:7)/", "both", "own", ""},
		{"/?option-file=" + with, "both", "own", "filed"},
		{"/?option-file=" + with + "&option-group=none", "both", "", "both"},
		{"/?option-file=" + with + "&option-group=ask", "both", "", "both"},
	} {
		t.Run("", func(t *testing.T) {
			t.Setenv("HOLDFAST_SOURCE_PASSWORD", "another's")
			for name, value := range map[string]string{"MYSQL_PWD": c.both, "HOLDFAST_TARGET_PASSWORD": c.target} {
				if value != "" {
					t.Setenv(name, value)
				}
			}
			if cfg, err := configure("target", c.dsn, Options{Password: asked}); err != nil || cfg.Passwd != c.want {
				t.Errorf("%+v: %v, %+v", c, err, cfg)
			}
		})
	}
	t.Setenv("MYSQL_PWD", "")
	if cfg, err := configure("target", "u@tcp(db:7)/", Options{Password: asked}); err != nil || cfg.Passwd != "" {
		t.Errorf("an empty one: %v", err)
	}
}

func optionsFile(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "my.cnf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return name
}

func TestOptionFile(t *testing.T) {
	for _, c := range []struct{ text, dsn, want string }{ // USER|PASSWORD|NET|ADDRESS|TLS
		{"[client]\nuser=u\nhost=db\nport=7", "/", "u||tcp|db:7|"},
		{"# x\n; y\n[mysqld]\nuser=mysql\n[client]\r\nuser = u # the " +
			"user\r\nhost='db'\nno-beep\ndefault_character_set=utf8\n[mysqldump]\nhost=other", "/", "u||tcp|db:3306|"},
		{"[client]\nuser=a\n[x]\n[client]\nuser=u", "/", "u||tcp|127.0.0.1:3306|"},
		{"[client]\nuser=u\nsocket=/s", "/", "u||unix|/s|"},
		{"[client]\nuser=u\nsocket=/s\nhost=localhost", "/", "u||unix|/s|"},
		{"[client]\nuser=u\nsocket=/s\nhost=localhost\nprotocol=TCP", "/", "u||tcp|localhost:3306|"},
		{"[client]\nuser=u\nsocket=/s\nhost=db", "/", "u||tcp|db:3306|"},
		{"[client]\nuser=u\nsocket=/s\nhost=db\nport=7", "v@tcp(other)/", "v||tcp|other:3306|"}, // the DSN counts, and is one address
		{"[client]\nuser=u\nsocket=/s\nport=7", "u@tcp/", "u||tcp|127.0.0.1:7|"},
		{"[client]\nuser=u\nssl", "/", "u||tcp|127.0.0.1:3306|skip-verify"},
		{"[client]\nuser=u\nssl=0", "/", "u||tcp|127.0.0.1:3306|false"},
		{"[client]\nuser=u\nssl_ca=/ca", "/", "u||tcp|127.0.0.1:3306|chain /ca"},
		{"[client]\nuser=u\nssl-ca=/ca\nssl-mode=REQUIRED", "/", "u||tcp|127.0.0.1:3306|chain /ca"},
		{"[client]\nuser=u\nssl-ca=/ca\nskip-ssl", "/", "u||tcp|127.0.0.1:3306|false"},
		{"[client]\nuser=u\nssl-ca=/ca\nssl-verify-server-cert", "/", "u||tcp|127.0.0.1:3306|true /ca"},
		{"[client]\nuser=u\nssl-ca=/ca\nssl-verify-server-cert=on\nssl=1", "/", "u||tcp|127.0.0.1:3306|true /ca"},
		{"[client]\nuser=u\nssl-verify-server-cert=1\nssl-verify-server-cert=0", "/", "u||tcp|127.0.0.1:3306|skip-verify"},
		{"[client]\nuser=u\nssl-ca=/ca\nssl-mode=verify_identity\nssl-cert=/c\nssl-key=/k", "/", "u||tcp|127.0.0.1:3306|true /ca /c /k"},
		{"[client]\nuser=u\nssl-cert=/c\nssl-key=/k", "/", "u||tcp|127.0.0.1:3306|skip-verify /c /k"},
		{"[client]\nuser=u\nssl-ca=/ca\nssl-mode=PREFERRED", "/?tls=true", "u||tcp|127.0.0.1:3306|true /ca"},
		{"[client]\nuser=u\nssl-ca=/ca", "/?tls-ca=/own", "u||tcp|127.0.0.1:3306| /own"},
		{"[client]\nuser=u\nssl-ca=/ca", "/?tls=skip-verify", "u||tcp|127.0.0.1:3306|skip-verify"},
	} {
		sep := "?"
		if strings.Contains(c.dsn, "?") {
			sep = "&"
		}
		a, err := parse(c.dsn + sep + "option-file=" + optionsFile(t, 0o644, c.text))
		if err == nil {
			err = a.complete()
		}
		if err != nil {
			t.Errorf("%q, %s: %v", c.text, c.dsn, err)
			continue
		}
		tls := string(a.tls.mode)
		for _, file := range []string{a.tls.ca, a.tls.cert, a.tls.key} {
			if file != "" {
				tls += " " + file
			}
		}
		if got := fmt.Sprintf("%s|%s|%s|%s|%s", a.user, a.password, a.net, a.where(), tls); got != c.want {
			t.Errorf("%q, %s:\n got %s\nwant %s", c.text, c.dsn, got, c.want)
		}
	}
}

func TestOptionFileErrors(t *testing.T) {
	for _, c := range []struct {
		text string
		mode os.FileMode
		want string
	}{
		{"[mysql]\nuser=u", 0o600, "has no group [client]"},
		{"", 0o600, "has no group [client]"},
		{"!includedir /etc/mysql/conf.d\n[client]\nuser=u", 0o600, "line 1: includes other files"},
		{"[client\nuser=u", 0o600, "line 1: want [GROUP]"},
		{"[client]\nuser=", 0o600, "line 2: user: want a value"},
		{"[client]\npassword hunter2", 0o600, "line 2: want NAME=VALUE"},
		{"[client]\n=hunter2", 0o600, "line 2: want NAME=VALUE"},
		{"[client]\nuser=u\npassword=hunter2", 0o644, "holds a password, and everybody may read or write it (0644): want chmod o= "},
		{"[client]\nuser=u\npassword=hunter2", 0o602, "(0602): want chmod o= "},
		{"[client]\nuser=u\nssl-cipher=x", 0o600, "line 3: ssl-cipher: is not known here"},
		{"[client]\nuser=u\ntls_version=x", 0o600, "line 3: tls-version: is not known here"},
		{"[client]\nuser=u\nssl-mode=x", 0o600, `line 3: ssl-mode: value "x": want DISABLED, `},
		{"[client]\nuser=u\nssl=x", 0o600, `line 3: ssl: value "x": want 1 or 0`},
		{"[client]\nuser=u\nprotocol=pipe", 0o600, `line 3: protocol: value "pipe": want tcp or socket`},
		{"[client]\nuser=u\nprotocol=socket", 0o600, "want socket=PATH, too"},
		{"[client]\nuser=u\nport=x", 0o600, `my.cnf: line 3: port: value "x": want 1 to 65535`},
		{"[client]\nuser=caf\xe9", 0o600, `my.cnf: line 2: user: value "caf\xe9": want UTF-8`},
		{"[client]\nusr=u", 0o600, `my.cnf: user: value "": want user=NAME in its group`},
		{strings.Repeat("#\n", maxOptions/2+1), 0o600, "want at most 1048576 bytes"},
	} {
		_, err := configure("source", "/?option-file="+optionsFile(t, c.mode, c.text), Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.80q: error %v: want %q", c.text, err, c.want)
		}
	}
	if _, err := configure("source", "/?option-file="+optionsFile(t, 0o640, "[client]\nuser=u\npassword=x"), Options{}); err != nil {
		t.Errorf("a group may read it: %v", err)
	}
}

// odd lines of an option file, of which the servers' own reader knows what they mean.
var odd = []string{
	`password=plain`, `password = spaced `, `password="a#b"`, `password='a#b'`, `password=a#b`, `password="a\"b"`,
	`password='a\'b'`, `password="a'b"`,
	`password=a\\b`, `password="a\nb"`, `password=\s\s`, `password="\s"`, `password="a\xb"`, `password="a\\"`,
	`password=a\`, `password="a`, `password="a" # x`, `password="a" b"`,
	`password=""`, `password="`, `password=a=b`, `password==`, `password=a;b`, `password="a" "b"`, `password=a"#"b`,
	`password=it's # x`, `password="it's" # x`, `password=a\#b`, `password="a\#b"`,
	`user=ü`, `  user  =  u  `, "\tuser\t=\tu\t", `user=u#`, `user="a\tb\rc\bd"`,
}

// TestOptionFileAsTheServersOwn: the servers' own reader understands each odd line alike.
func TestOptionFileAsTheServersOwn(t *testing.T) {
	bin, err := exec.LookPath("my_print_defaults")
	if err != nil {
		t.Skip("MariaDB is not installed: ", err)
	}
	for _, line := range odd {
		file := optionsFile(t, 0o600, "[client]\n"+line+"\n[end]\n")
		out, err := exec.CommandContext(t.Context(), bin, "--defaults-file="+file, "client").Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		want := strings.TrimSuffix(string(out), "\n")
		list, err := parseOptions("[client]\n"+line+"\n[end]\n", "client")
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %v, %v", line, list, err)
			continue
		}
		if got := "--" + list[0].name + "=" + list[0].value; got != want {
			t.Errorf("%s:\n got %q\nwant %q", line, got, want)
		}
	}
}

// FuzzDSN: a DSN either is understood, or its error does not show what a password could be.
func FuzzDSN(f *testing.F) {
	for _, s := range []string{"u:p@tcp(h:1)/?tls=true", "u@unix(/s)/", "mysql://u:p%40@[::1]:3/?compress=1",
		"u:a/?b@tcp(h)/?timeout=3s", "mysql://u:1?x@h/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "option") {
			return // files of this machine are not read
		}
		a, err := parse(s)
		if err != nil {
			return
		}
		if err := a.complete(); err != nil {
			return
		}
		if a.user == "" || !slices.Contains([]string{"tcp", "unix"}, a.net) || a.where() == "" || a.password != "" && !a.given {
			t.Errorf("%q: %+v", s, a)
		}
	})
}

// FuzzDSNKeepsThePassword: whatever a password is, in both forms it arrives as it was,
// and no error shows it.
func FuzzDSNKeepsThePassword(f *testing.F) {
	for _, s := range []string{"p", "a@b", "/?tls=true", ")/", "%41", "a#b?c", ":", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, password string) {
		if len(password) > maxDSN/4 {
			return
		}
		plain := strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f })
		if a, err := parse("u:" + password + "@tcp(h:1)/"); !plain &&
			(err != nil || a.password != password || a.user != "u" || a.where() != "h:1") {
			t.Errorf("%q: %+v, %v", password, a, err)
		}
		var b strings.Builder
		for _, c := range []byte(password) {
			fmt.Fprintf(&b, "%%%02X", c)
		}
		if a, err := parse("mysql://u:" + b.String() + "@h:1/"); err != nil || a.password != password {
			t.Errorf("%q: %+v, %v", password, a, err)
		}
		// Raw where it must not be: refused, or understood, but not shown.
		long := "QZX" + password + "QZX"
		if _, err := parse("mysql://u:" + long + "@h:1/"); err != nil && strings.Contains(err.Error(), "QZX") {
			t.Errorf("%q: shown by %v", password, err)
		}
	})
}

// FuzzOptionFile: no text makes the reader fall, and what it takes has names.
func FuzzOptionFile(f *testing.F) {
	for _, line := range odd {
		f.Add("[client]\n" + line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseOptions(text, "client")
		if err != nil {
			return
		}
		a := &address{}
		for _, o := range list {
			if !word(o.name) || o.line < 1 || !o.given && o.value != "" {
				t.Errorf("%q: %+v", text, o)
			}
			if err := a.option(o); err != nil && err.Error() == "" {
				t.Error("an error without words")
			}
		}
	})
}

// TestCheckDSN: a DSN is looked at without a look at the file that it names.
func TestCheckDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"/?option-file=/nothing/there.cnf": "",
		"u@tcp(db:3306)/":                  "",
		"db:3306":                          "want USER:PASSWORD@tcp(HOST:PORT)",
		"u@tcp(db:3306)/nova":              "has a database: want none",
		"/?optionfile=/x":                  `parameter "optionfile": want one of`,
		"/?option-group=x":                 "want it together with option-file",
	} {
		if err := CheckDSN(dsn); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", dsn, err, want)
		}
	}
}
