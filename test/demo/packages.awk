# packages.awk — the package database of dpkg as rows for COPY: name, section, description.
# One row per name, although a package may be installed for several architectures.
BEGIN { RS = ""; FS = "\n"; OFS = "\t" }

function text(value) {
	gsub(/\\/, "\\\\", value)
	gsub(/[\t\r]/, " ", value)
	return value
}

{
	name = section = description = ""
	for (i = 1; i <= NF; i++) {
		if ($i ~ /^[A-Za-z-]+:/)
			field = substr($i, 1, index($i, ":") - 1)
		value = $i
		sub(/^[A-Za-z-]+: */, "", value)
		if (field == "Package") name = value
		else if (field == "Section") section = value
		else if (field == "Description") {
			sub(/^ +/, "", value)
			if (value == ".") value = ""
			description = description (description == "" ? "" : "\\n") text(value)
		}
	}
	if (name != "" && description != "" && !(name in seen)) {
		seen[name] = 1
		print text(name), text(section), description
	}
}
