// Makes elements for the scripts of components. Text goes in as text, never as HTML.
const element = (tag, className, text) => {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text !== undefined) made.textContent = text
  return made
}

