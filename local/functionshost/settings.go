package functionshost

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

var settingReference = regexp.MustCompile(`%([A-Za-z_][A-Za-z0-9_.:\-]*)%`)

// settings are the app settings. Names are compared without case, as .NET
// configuration does; the environment of the handler keeps their case.
type settings map[string]string

func (s settings) lookup(name string) (string, bool) {
	if v, ok := s[name]; ok {
		return v, true
	}
	for k, v := range s {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return "", false
}

// expand replaces %NAME% and lists the names that are not set. An unset name
// becomes "".
func (s settings) expand(text string) (expanded string, unset []string) {
	expanded = settingReference.ReplaceAllStringFunc(text, func(ref string) string {
		name := strings.Trim(ref, "%")
		v, ok := s.lookup(name)
		if !ok {
			unset = append(unset, name)
		}
		return v
	})
	return expanded, unset
}

// disabled reports whether a setting switches the function off.
func (s settings) disabled(function string) bool {
	for _, name := range []string{"AzureWebJobs." + function + ".Disabled", "AzureWebJobs_" + function + "_Disabled"} {
		if v, ok := s.lookup(name); ok && (v == "1" || strings.EqualFold(v, "true")) {
			return true
		}
	}
	return false
}

// environment is what the handler starts with, before the five variables of the
// custom handler contract. Nothing of the host's own environment leaks in but
// PATH and HOME, so that an app cannot lean on the developer's shell.
func (s settings) environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for name, value := range s {
		env = append(env, name+"="+value)
	}
	slices.Sort(env[2:])
	return env
}
