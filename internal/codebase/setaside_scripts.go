package codebase

import (
	"path"
	"strings"
)

// buildOutputs are the scripts that a build made, by their paths alone; the
// package comment has the rule. A tracked build says all that its source says
// once more: each of its functions would be counted, read and reported twice.
func buildOutputs(files []listed) map[string]bool {
	built, projects := map[string]bool{}, map[string]bool{}
	scripts := map[string]bool{}
	for _, f := range files {
		if _, _, ok := scriptForm(f.path); ok && !f.submodule && asideByPath(f.path) == "" {
			scripts[f.path] = true
			if project, _ := outputFolder(f.path); project != "" {
				projects[project] = true
			}
			projects[path.Dir(f.path)] = projects[path.Dir(f.path)] || modeName(f.path)
		}
	}
	type form struct{ project, stem string }
	sources := map[form]bool{} // what is not an output by its folder or name
	for p := range scripts {
		project, always := outputFolder(p)
		if project != "" || always || modeName(p) {
			continue
		}
		stem, _, _ := scriptForm(p)
		for folder := path.Dir(p); ; folder = path.Dir(folder) {
			if projects[folder] {
				sources[form{folder, stem}] = true
			}
			if folder == "." {
				break
			}
		}
	}
	for p := range scripts {
		stem, exact, _ := scriptForm(p)
		project, always := outputFolder(p)
		switch {
		case always, project != "" && sources[form{project, stem}]:
			built[p] = true
		case modeName(p):
			built[p] = sources[form{path.Dir(p), stem}] || project != "" && hasOtherMode(p, scripts)
		case strings.HasSuffix(p, ".cjs") || strings.HasSuffix(p, ".mjs"):
			built[p] = scripts[exact+".js"] || scripts[exact+".ts"] || scripts[exact+".tsx"]
		}
	}
	return built
}

// scriptForm gives the base name under which all forms of a script meet, and
// the path without its extension.
func scriptForm(p string) (stem, exact string, ok bool) {
	switch ext := path.Ext(p); ext {
	case ".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx", ".mts", ".cts", ".vue", ".svelte":
		exact = strings.TrimSuffix(p, ext)
	default:
		return "", "", false
	}
	stem = strings.ToLower(strings.TrimSuffix(path.Base(exact), ".d"))
	for again := true; again; {
		again = false
		for _, mark := range []string{".development", ".production", ".module", ".umd", ".cjs", ".esm", ".es", ".iife", ".global", ".browser", ".bundle"} {
			if s, cut := strings.CutSuffix(stem, mark); cut && s != "" {
				stem, again = s, true
			}
		}
	}
	return stem, exact, true
}

// outputFolder gives the folder that holds both the build folder that a script
// lies in and, where the script is a copy, its source; "" where it lies in
// none. always: the build folder holds nothing but output.
func outputFolder(p string) (project string, always bool) {
	switch ext := path.Ext(p); ext {
	case ".js", ".mjs", ".cjs":
	default:
		if !strings.HasSuffix(p, ".d.ts") && !strings.HasSuffix(p, ".d.mts") && !strings.HasSuffix(p, ".d.cts") {
			return "", false
		}
	}
	for folder := path.Dir(p); folder != "."; folder = path.Dir(folder) {
		above := path.Dir(folder)
		switch path.Base(folder) {
		case "dist":
			return above, true
		case "build":
			project = above
		case "umd", "cjs", "esm", "amd", "iife", "commonjs", "system":
			switch path.Base(above) {
			case "lib", "build":
				project = path.Dir(above)
			default:
				if modeName(p) && project == "" {
					project = above
				}
			}
		}
	}
	return project, false
}

// modeName says that a script is called after a mode of building. Settings
// have such names too, and are written by hand.
func modeName(p string) bool {
	base := strings.ToLower(path.Base(p))
	switch path.Ext(base) {
	case ".js", ".mjs", ".cjs":
		base = strings.TrimSuffix(base, path.Ext(base))
	default:
		return false
	}
	name, ok := strings.CutSuffix(base, ".development")
	if !ok {
		name, ok = strings.CutSuffix(base, ".production")
	}
	if !ok || name == "" {
		return false
	}
	for _, settings := range []string{"config", "conf", "env", "setting", "webpack", "rollup", "vite"} {
		if strings.Contains(name, settings) {
			return false
		}
	}
	return true
}

// hasOtherMode says that a script of the other mode lies beside it.
func hasOtherMode(p string, scripts map[string]bool) bool {
	return scripts[strings.Replace(p, ".development.", ".production.", 1)] && strings.Contains(p, ".development.") ||
		scripts[strings.Replace(p, ".production.", ".development.", 1)] && strings.Contains(p, ".production.")
}
