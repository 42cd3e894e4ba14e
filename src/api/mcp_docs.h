/*-------------------------------------------------------------------------
 *
 * mcp_docs.h
 *	  What the MCP endpoint teaches language models.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEMPO_API_MCP_DOCS_H
#define TEMPO_API_MCP_DOCS_H

typedef struct McpDocument
{
	const char *kind; /* "traceql" or "config" */
	const char *name;
	const char *text; /* Markdown */
} McpDocument;

extern const McpDocument mcp_documents[];
extern const int         mcp_n_documents;

#endif /* TEMPO_API_MCP_DOCS_H */
