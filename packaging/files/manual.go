package files

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"

	"holdfast/docs"
)

// manual are the manual pages: one for each command, one for the source tool's commands, one for the configuration.
// Those of commands have the texts of the help, the others those of the documentation. They are compressed.
func manual(root, zsha *cobra.Command) ([]File, error) {
	all := append(pages(root), File{Path: "/usr/share/man/man1/" + zsha.Name() + ".1", Content: zshaPage(zsha)},
		File{Path: "/usr/share/man/man5/" + root.Name() + ".5", Content: configPage(root)})
	for i := range all {
		var b bytes.Buffer
		w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		if err == nil {
			_, err = w.Write(all[i].Content)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("compress %s: %w", all[i].Path, err)
		}
		all[i].Path, all[i].Mode, all[i].Content = all[i].Path+".gz", 0o644, b.Bytes()
	}
	return all, nil
}

// pages are the manual pages of a command and all below it.
func pages(c *cobra.Command) []File {
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	out := []File{{Path: "/usr/share/man/man1/" + name + ".1", Content: page(c, name)}}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			out = append(out, pages(sub)...)
		}
	}
	return out
}

// page is the manual page of one command. Its texts are shown line by line, as the
// help shows them.
func page(c *cobra.Command, name string) []byte {
	var b bytes.Buffer
	head(&b, name, 1, c.Short)
	section(&b, "SYNOPSIS", c.UseLine())
	section(&b, "DESCRIPTION", c.Long)
	section(&b, "OPTIONS", c.NonInheritedFlags().FlagUsages())
	section(&b, "OPTIONS OF ALL COMMANDS", c.InheritedFlags().FlagUsages())
	section(&b, "EXAMPLES", c.Example)
	var related []string
	if c.HasParent() {
		related = append(related, c.Parent().CommandPath())
	} else {
		related = append(related, c.Name()+"(5)")
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			related = append(related, sub.CommandPath())
		}
	}
	for i, r := range related {
		if related[i] = strings.ReplaceAll(r, " ", "-"); !strings.HasSuffix(r, ")") {
			related[i] += "(1)"
		}
	}
	section(&b, "SEE ALSO", strings.Join(related, "\n"))
	return b.Bytes()
}

// zshaPage is the manual page of the source tool's commands: the help of each, and what differs from that tool.
func zshaPage(c *cobra.Command) []byte {
	var b bytes.Buffer
	head(&b, c.Name(), 1, c.Short)
	section(&b, "SYNOPSIS", c.Name()+" [-h] [-v] COMMAND")
	section(&b, "DESCRIPTION", c.Long)
	b.WriteString(".SH COMMANDS\n")
	for _, sub := range c.Commands() {
		if sub.Name() == "help" {
			continue
		}
		fmt.Fprintf(&b, ".SS %s\n.nf\n%s\n.fi\n", roff(strings.TrimPrefix(sub.CommandPath(), c.Name()+" ")), roff(sub.UseLine()+"\n\n"+sub.Long))
		if flags := sub.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
			fmt.Fprintf(&b, ".PP\n.nf\n%s\n.fi\n", roff(strings.Trim(flags.FlagUsages(), "\n")))
		}
	}
	section(&b, "OPTIONS OF ALL COMMANDS", c.PersistentFlags().FlagUsages())
	section(&b, "EXAMPLES", c.Example)
	b.Write(markdown("## DIFFERENCES\n\n" + docs.Zsha()))
	section(&b, "SEE ALSO", "holdfast(1)\nholdfast(5)")
	return b.Bytes()
}

// configPage is the manual page of the configuration and the settings.
func configPage(root *cobra.Command) []byte {
	var b bytes.Buffer
	head(&b, root.Name(), 5, "configuration of a cluster, and settings of an agent")
	section(&b, "SYNOPSIS", "/etc/holdfast/cluster.json\n/etc/holdfast/agent.json")
	_, text, _ := strings.Cut(docs.Configuration(), "\n") // without its title
	b.Write(markdown("## DESCRIPTION\n" + text))
	section(&b, "SEE ALSO", "holdfast-config(1)\nholdfast-config-check(1)\nholdfast-install(1)")
	return b.Bytes()
}

func head(b *bytes.Buffer, name string, number int, short string) {
	fmt.Fprintf(b, ".TH %s %d \"\" Holdfast\n.SH NAME\n%s \\- %s\n", strings.ToUpper(name), number, roff(name), roff(short))
}

// section writes a text line by line.
func section(b *bytes.Buffer, title, text string) {
	if text = strings.Trim(text, "\n"); text != "" {
		fmt.Fprintf(b, ".SH %s\n.nf\n%s\n.fi\n", title, roff(text))
	}
}

// link is one to another page or section, which a manual page does not have.
var link = regexp.MustCompile(`\[([^]]+)\]\([^)]+\)`)

// markdown formats a section of the documentation.
func markdown(text string) []byte {
	return bytes.TrimPrefix(md2man.Render([]byte(withoutTables(link.ReplaceAllString(text, "$1")))), []byte(".nh\n"))
}

// withoutTables makes a list of each table: the formatter breaks no line within one, and cells are long. Where a row
// has more than two cells, each has the name of its column.
func withoutTables(text string) string {
	var b strings.Builder
	var heads []string
	for l := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(l, "| \n"), " | ")
		switch {
		case !strings.HasPrefix(l, "|"):
			heads = nil
			b.WriteString(l)
		case heads == nil:
			heads = cells
		case strings.HasPrefix(l, "|---"):
		default:
			b.WriteString("- " + cells[0] + ":")
			for i, c := range cells[1:] {
				if len(cells) > 2 {
					c = heads[min(i+1, len(heads)-1)] + " " + c + ";"
				}
				b.WriteString(" " + c)
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

// roff escapes what the formatter of manual pages would interpret.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
