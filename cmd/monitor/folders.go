package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unicode"
)

// Folders are the only places that the program writes to.
type Folders struct {
	Data, Config, Cache string
}

// foldersFor finds the folders: MONITOR_HOME holds all three when set; else the
// XDG variables, else the platform's custom. home is asked only when needed.
func foldersFor(getenv func(string) string) (Folders, error) {
	if root := getenv("MONITOR_HOME"); root != "" {
		abs, err := filepath.Abs(root)
		if err != nil {
			return Folders{}, fmt.Errorf("MONITOR_HOME=%s: %w", root, err)
		}
		return Folders{filepath.Join(abs, "data"), filepath.Join(abs, "config"), filepath.Join(abs, "cache")}, nil
	}
	home := getenv("HOME")
	if home == "" {
		home = getenv("USERPROFILE")
	}
	pick := func(env string, fallback ...string) (string, error) {
		// The XDG specification says that relative paths are to be ignored.
		if v := getenv(env); filepath.IsAbs(v) {
			return filepath.Join(v, "monitor"), nil
		}
		if home == "" {
			return "", missing("neither MONITOR_HOME nor HOME is set, so there is no place to keep data; set MONITOR_HOME to a folder")
		}
		return filepath.Join(append([]string{home}, append(fallback, "monitor")...)...), nil
	}
	var f Folders
	var err error
	local, config, cache := []string{".local", "share"}, []string{".config"}, []string{".cache"}
	if runtime.GOOS == "windows" {
		local, config, cache = []string{"AppData", "Local"}, []string{"AppData", "Roaming"}, []string{"AppData", "Local", "Temp"}
	}
	if f.Data, err = pick("XDG_DATA_HOME", local...); err != nil {
		return f, err
	}
	if f.Config, err = pick("XDG_CONFIG_HOME", config...); err != nil {
		return f, err
	}
	f.Cache, err = pick("XDG_CACHE_HOME", cache...)
	return f, err
}

func (f Folders) models() string       { return filepath.Join(f.Data, "models") }
func (f Folders) engines() string      { return filepath.Join(f.Data, "engines") }
func (f Folders) reports() string      { return filepath.Join(f.Data, "reports") }
func (f Folders) baselines() string    { return filepath.Join(f.Data, "baselines") }
func (f Folders) logs() string         { return filepath.Join(f.Data, "logs") }
func (f Folders) database() string     { return filepath.Join(f.Data, "monitor.db") }
func (f Folders) configFile() string   { return filepath.Join(f.Config, "config.yaml") }
func (f Folders) modelsFile() string   { return filepath.Join(f.Config, "models.yaml") }
func (f Folders) cardsFile() string    { return filepath.Join(f.Config, "cards.yaml") }
func (f Folders) pricesFile() string   { return filepath.Join(f.Config, "prices.yaml") }
func (f Folders) routesFile() string   { return filepath.Join(f.Config, "routes.yaml") }
func (f Folders) keyFile() string      { return filepath.Join(f.Config, "claude.key") }
func (f Folders) profilesFile() string { return filepath.Join(f.Config, "profiles.yaml") }

// make makes the data and cache folders, private to the user: reports quote
// their code.
func (f Folders) make() error {
	for _, d := range []string{f.Data, f.Cache} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make the folder %s: %w; set MONITOR_HOME to a folder that can be written", d, err)
		}
	}
	return nil
}

// engineLog is what the engine of a model prints; slotFolder is where engines keep
// the slots of models that had to leave.
func (f Folders) engineLog(model string) string {
	plain := strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r)) {
			return r
		}
		return '_'
	}, model)
	return filepath.Join(f.logs(), "engine-"+plain+".log")
}

func (f Folders) slotFolder() string { return filepath.Join(f.Cache, "slots") }
