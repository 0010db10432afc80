# Reads "package import" pairs and fails on an arrow that points up or sideways.
#   services/* -> pkg -> proto, db ; services/fulcrum may import each service's app ;
#   test imports proto only ; in pkg only outbox may import db.
function part(p,  a) {
  if (index(p, root) != 1) return ""
  split(substr(p, length(root) + 1), a, "/")
  return a[1] == "services" ? a[1] "/" a[2] : a[1]
}
function rank(p) { return p ~ /^services\// ? 3 : p == "pkg" ? 2 : p == "test" ? 4 : 1 }
{
  from = part($1); to = part($2)
  if (from == "" || to == "" || from == to) next
  bad_here = rank(to) >= rank(from)
  if (from == "services/fulcrum" && $2 ~ /\/services\/[a-z-]+\/app$/) bad_here = 0
  if (from == "test" && to != "proto") bad_here = 1
  if (from == "pkg" && to == "db" && $1 !~ /\/pkg\/outbox(\/|$)/) bad_here = 1
  if (bad_here) { print "forbidden import: " $1 " -> " $2; failed = 1 }
}
END { exit failed }
