package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// secretBytesMin keeps a secret from being a word that answers hold anyway: it is masked in all of them.
const secretBytesMin = 8

// readSecrets reads the variables that LOGLINE_SECRETS lists, and says what is wrong with the list.
func (c *Config) readSecrets() []error {
	var faults []error
	refuse := func(cause, mend string) {
		faults = append(faults, fmt.Errorf("LOGLINE_SECRETS %s: %s", cause, mend))
	}
	for _, entry := range c.Secrets {
		name, host, isBound := strings.Cut(entry, "@")
		host = strings.ToLower(host)
		value := os.Getenv(name)
		switch {
		case !envName.MatchString(name):
			refuse(fmt.Sprintf("names %.40q", name), "write NAME@host:port with commas, never values")
		case slices.ContainsFunc(Describe(), func(v Variable) bool { return v.Name == name }):
			refuse("names "+name, "the sidecar's own variables never reach ledger code; use another")
		case value == "":
			refuse("names "+name+", which is not set", "export it, or take it off the list")
		case len(value) < secretBytesMin:
			refuse("names "+name+", which is short", fmt.Sprintf("use at least %d characters", secretBytesMin))
		case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
			refuse("names "+name+", which holds a space, a control character or a letter beyond ASCII",
				"export the bare value, without a line's end")
		case !isBound && len(c.FetchAllow) != 1:
			refuse("names "+name+" without a host", fmt.Sprintf(
				"write %s@host:port, with the host of LOGLINE_FETCH_ALLOW that alone gets it", name))
		case isBound && !slices.Contains(c.FetchAllow, host):
			refuse(fmt.Sprintf("binds %s to %.80q", name, host),
				"bind it to a host:port that stands on LOGLINE_FETCH_ALLOW")
		case isBound:
			c.bind(name, value, host)
		default:
			c.bind(name, value, c.FetchAllow[0])
		}
	}
	return faults
}

func (c *Config) bind(name, value, host string) {
	for i := range c.secrets {
		if c.secrets[i].Name == name {
			c.secrets[i].Hosts = append(c.secrets[i].Hosts, host)
			return
		}
	}
	c.secrets = append(c.secrets, Secret{Name: name, Value: value, Hosts: []string{host}})
}
